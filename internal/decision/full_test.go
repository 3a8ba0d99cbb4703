package decision_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestFullSetTakesNoNewDecisionButChangesOldOnes(t *testing.T) {
	log := decision.NewLog(decision.NewSet(nil), &memory{}, decision.LogOptions{MaxEntries: 2})
	if _, err := log.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	add := func(ds ...defense.Decision) error {
		_, err := log.Add(t.Context(), ds, decision.AddOptions{})
		return err
	}
	if err := add(deny("192.0.2.1"), deny("192.0.2.2")); err != nil {
		t.Fatal(err)
	}
	if err := add(deny("192.0.2.3")); !errors.Is(err, decision.ErrFull) || log.Set().Len() != 2 {
		t.Errorf("a third: %v, %d in force", err, log.Set().Len())
	}
	changed := deny("192.0.2.2")
	changed.Reason = "another"
	if err := add(changed); err != nil {
		t.Errorf("a change: %v", err)
	}
	if _, err := log.Import(t.Context(), strings.NewReader("192.0.2.8\n192.0.2.9\n"), decision.ImportOptions{}); !errors.Is(err, decision.ErrFull) {
		t.Errorf("an import: %v", err)
	}
	if n, err := log.DeleteWhere(t.Context(), decision.Filter{Value: "192.0.2.1"}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := add(deny("192.0.2.3")); err != nil {
		t.Errorf("after a deletion: %v", err)
	}
}
