package storetest

import (
	"testing"

	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/store"
)

// ArchiveFactory makes the archives that [Archive] tests. Their clock stands at [Noon].
type ArchiveFactory struct {
	// Open returns an archive with nothing in it.
	Open func(t *testing.T, p privacy.Settings) store.Archive
	// Reopen closes a and opens the same data again.
	Reopen func(t *testing.T, a store.Archive, p privacy.Settings) store.Archive
}

// keepAll are the settings of tests that privacy does not matter to.
func keepAll() privacy.Settings { return privacy.Settings{KeepQuery: true} }

// Archive holds a store.Archive to what its interface says. Each part gets archives of its own.
func Archive(t *testing.T, f ArchiveFactory) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, ArchiveFactory)
	}{
		{"events come back as they were written", testEventsComeBackAsTheyWereWritten},
		{"what was written is there after a restart", testWhatWasWrittenIsThereAfterARestart},
		{"a batch sent again is not stored twice", testABatchSentAgainIsNotStoredTwice},
		{"events of any time are kept and found", testEventsOfAnyTimeAreKeptAndFound},
		{"hostile text is stored safely", testHostileTextIsStoredSafely},
		{"a batch of hostile text comes back", testABatchOfHostileTextComesBack},
		{"filters", testFilters},
		{"pages tile the archive even within one millisecond", testPagesTileTheArchiveEvenWithinOneMillisecond},
		{"senseless filters are told", testSenselessFiltersAreTold},
		{"a canceled context ends append without a trace", testACanceledContextEndsAppendWithoutATrace},
		{"counters add up exactly", testCountersAddUpExactly},
		{"counters that come again are not added again", testCountersOnce},
		{"a summary tallies what was recorded", testSummaryTalliesWhatWasRecorded},
		{"harm groups readers by neighbourhood", testHarmGroupsReadersByNeighbourhood},
		{"writers at the same time lose nothing", testWritersAtTheSameTimeLoseNothing},
		{"prune by age", testPruneByAge},
		{"prune by size keeps the newest", testPruneBySizeKeepsTheNewest},
		{"prune to a limit below an empty archive ends", testPruneToALimitBelowAnEmptyArchiveEnds},
		{"old counters go, recent ones stay", testOldCountersGoRecentOnesStay},
		{"addresses are stored in the chosen form", testAddressesAreStoredInTheChosenForm},
		{"a person is found and erased in every form", testAPersonIsFoundAndErasedInEveryForm},
		{"a person stored in full is still found after hashing was turned on", testAPersonStoredInFullIsFoundAfterHashingWasTurnedOn},
		{"queries can be dropped", testQueriesCanBeDropped},
		{"cases come back as they were kept", testCasesComeBackAsTheyWereKept},
		{"a person's label survives the next revision", testALabelSurvivesTheNextRevision},
		{"case filters", testCaseFilters},
		{"pages of cases tile the archive", testPagesOfCasesTileTheArchive},
		{"cases that cannot be kept are refused with their batch", testBadCasesAreRefusedWithTheirBatch},
		{"hostile cases are bounded", testHostileCasesAreBounded},
		{"pruning cases keeps the labelled ones", testPruningCasesKeepsTheLabelledOnes},
		{"a case is found by its client in every form", testACaseIsFoundByItsClientInEveryForm},
		{"erasing a person takes their cases along", testErasingAPersonTakesTheirCasesAlong},
		{"artifacts have versions that never change", testArtifacts},
		{"artifacts put at the same time each have a version", testArtifactsAtTheSameTime},
		{"an archive in use answers a ping, a closed one does not", testPing},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, f) })
	}
}

func testPing(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	if err := a.Ping(t.Context()); err != nil {
		t.Errorf("open: %v", err)
	}
	if n, err := a.Size(); err != nil || n <= 0 {
		t.Errorf("size %d, %v", n, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a.Ping(t.Context()) == nil {
		t.Error("closed: no error")
	}
}
