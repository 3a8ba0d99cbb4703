package wait

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestForWaitsAsLongAsThereIsReasonTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !For(t.Context(), time.Minute) || time.Since(began) != time.Minute {
			t.Errorf("a minute took %s", time.Since(began))
		}
		began = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if For(ctx, time.Minute) || time.Since(began) != time.Second {
			t.Errorf("a wait that was ended after a second took %s", time.Since(began))
		}
		if !For(t.Context(), -time.Second) {
			t.Error("what is over was waited for")
		}
	})
}
