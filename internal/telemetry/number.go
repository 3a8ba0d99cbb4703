package telemetry

// Bool is 1 for true and 0 for false, as a metric shows it.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
