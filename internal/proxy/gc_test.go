package proxy

import "testing"

func TestSmallHeapsGetRoomAndLargeOnesTheDefault(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 1 << 20: 1000, 8 << 20: 300, 24 << 20: 100, 200 << 20: 100} {
		if got := percentFor(live); got != want {
			t.Errorf("%d MiB live: %d %%, want %d", live>>20, got, want)
		}
	}
}
