// Package race tells tests whether the race detector is on.
package race

import "testing"

// SkipAllocations skips a test that counts allocations when the race detector
// is on: sync.Pool then drops a part of what it is given, so that every use of
// a pool, also inside the standard library, allocates now and then. test.sh
// runs these tests once more without it; their names contain "Alloc".
func SkipAllocations(t testing.TB) {
	t.Helper()
	if Enabled {
		t.Skip("allocations are counted without the race detector")
	}
}
