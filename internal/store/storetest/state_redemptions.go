package storetest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/redemption"
)

func redemptions(t *testing.T, f StateFactory) {
	s := f.Open(t)
	defer s.Close()
	at := time.Unix(1_790_000_000, 0)
	of := func(ticket, visitor defense.TokenID) defense.Redemption {
		return defense.Redemption{Ticket: ticket, Visitor: visitor, At: at, Share: 200}
	}
	t.Run("the first of a ticket stays", func(t *testing.T) {
		first, known, err := s.Redeem(t.Context(), of(1<<63+7, 1), redemption.Keep)
		if err != nil || known || first != of(1<<63+7, 1) {
			t.Fatalf("%+v, %v, %v", first, known, err)
		}
		later := of(1<<63+7, 2)
		later.At, later.Share = at.Add(time.Minute), 10
		first, known, err = s.Redeem(t.Context(), later, redemption.Keep)
		if err != nil || !known || first.Visitor != 1 || !first.At.Equal(at) || first.Share != 200 || first.Ticket != 1<<63+7 {
			t.Errorf("%+v, %v, %v", first, known, err)
		}
		if _, known, err := s.Redeem(t.Context(), of(8, 2), redemption.Keep); err != nil || known {
			t.Errorf("another ticket: %v, %v", known, err)
		}
	})
	t.Run("of many at once one is the first", func(t *testing.T) {
		var firsts atomic.Int32
		var all sync.WaitGroup
		for visitor := range defense.TokenID(20) {
			all.Go(func() {
				if _, known, err := s.Redeem(t.Context(), of(99, visitor+1), redemption.Keep); err != nil {
					t.Error(err)
				} else if !known {
					firsts.Add(1)
				}
			})
		}
		all.Wait()
		if n := firsts.Load(); n != 1 {
			t.Errorf("%d were the first", n)
		}
	})
}
