package replay

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// stoppedGroup is the lines of one log that one rule stops for the same agent.
type stoppedGroup struct{ file, verdict, agent string }

// listedHarm reads the table of testdata/harm.md: file, lines, verdict, agent, reason.
func listedHarm(t *testing.T) map[stoppedGroup]string {
	t.Helper()
	text, err := os.ReadFile("testdata/harm.md")
	if err != nil {
		t.Fatal(err)
	}
	list := map[stoppedGroup]string{}
	for _, row := range strings.Split(string(text), "\n") {
		cells := strings.Split(row, "|")
		if len(cells) != 7 {
			continue
		}
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		if cells[1] == "log" || strings.HasPrefix(cells[1], "---") {
			continue
		}
		if cells[5] == "" {
			t.Errorf("no reason is given for %s", row)
		}
		list[stoppedGroup{cells[1], cells[3], cells[4]}] = cells[2]
	}
	return list
}

// The promise to readers: a line of the real logs is stopped only if testdata/harm.md says why that is right.
func TestNobodyIsStoppedOnACalmDayWithoutAListedReason(t *testing.T) {
	files, err := filepath.Glob(logs + "/crowdsec/*.log")
	if err != nil || len(files) == 0 {
		t.Fatal("no logs", err)
	}
	files = append(files, logs+"/elastic-apache_logs.log.gz")
	counts, firsts, lines := map[stoppedGroup]int{}, map[stoppedGroup]int{}, 0
	o := options(t)
	_, _, err = judgeAll(context.Background(), files, &o, func(line *observed, _ *defense.Verdict) {
		lines++
		if !line.Verdict.Intended.Stops() {
			return
		}
		if kind := Reader(line.Profile); kind != "" {
			t.Errorf("%s:%d is stopped and looks like a reader (%s): %s, %s", line.File, line.Line, kind, line.Profile.Agent.Text.Value, line.Verdict.Reason)
		}
		g := stoppedGroup{filepath.Base(line.File), fmt.Sprintf("%s by %s", line.Verdict.Intended, line.Verdict.Rule), line.Profile.Agent.Text.Value}
		if counts[g]++; counts[g] == 1 {
			firsts[g] = line.Line
		}
	}, func() uint64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	if lines < 10_000 {
		t.Fatalf("only %d lines were judged", lines)
	}
	got := map[stoppedGroup]string{}
	for g, n := range counts {
		got[g] = fmt.Sprintf("%d from line %d", n, firsts[g])
	}
	if diff := cmp.Diff(listedHarm(t), got, cmp.AllowUnexported(stoppedGroup{})); diff != "" {
		t.Errorf("what is stopped is not what harm.md lists (-listed +stopped):\n%s", diff)
		for g, n := range got {
			t.Logf("| `%s` | %s | %s | `%s` |  |", g.file, n, g.verdict, g.agent)
		}
	}
}
