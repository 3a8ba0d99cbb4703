package testserver

import "testing"

func TestWhatRedisAcknowledgedSurvivesAKill(t *testing.T) {
	s := Redis(t)
	s.Do("SET", "a", "1")
	for _, end := range []func(){s.Kill, s.Stop} {
		address := s.Address
		end()
		s.Start()
		if s.Address != address {
			t.Errorf("moved from %s to %s", address, s.Address)
		}
		if got := s.Do("INCR", "a"); got == ":1" {
			t.Error("the value is lost")
		}
	}
	s.Pause()
	s.Resume()
	if got := s.Do("GET", "a"); got != "$1" {
		t.Errorf("got %s", got)
	}
}
