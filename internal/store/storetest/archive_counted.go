package storetest

import (
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/record"
)

// testCountersOnce: an edge that does not know whether its counters arrived sends them again under the same id.
func testCountersOnce(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	const first, second = "01M8997DSPW8Y1V4S6R2T0PZ5M", "01M8997DSPW8Y1V4S6R2T0PZ5N"
	for _, id := range []string{first, first, second} {
		if err := a.AddCountersOnce(t.Context(), id, []record.Counter{{Hour: Noon(), Site: "once", Count: 5}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.AddCountersOnce(t.Context(), "no ULID", nil); err == nil {
		t.Error("an id that is no ULID was taken")
	}
	s, err := a.Summary(t.Context(), Noon(), Noon().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if s.Requests != 10 {
		t.Errorf("%d requests, want 10", s.Requests)
	}
}
