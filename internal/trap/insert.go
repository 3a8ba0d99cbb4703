package trap

import "io"

// inserter writes a document on with links at their place.
type inserter struct {
	to    io.Writer
	links func() []byte // makes them when their place has come
	scan  scanner
	held  [maxHeld]byte // the scan.held bytes that are not written yet
	done  bool          // the place has come, or the end
}

// write writes the next piece, but for the last few bytes if they may be the beginning of the tag that the links go before.
func (s *inserter) write(p []byte) error {
	if s.done {
		return s.send(p)
	}
	before := s.held[:s.scan.held]
	at, found := s.scan.scan(p)
	cut := len(before) + min(at, 0)
	at = max(at, 0)
	if err := s.send(before[:cut], p[:at]); err != nil {
		return err
	}
	if !found {
		n := copy(s.held[:], before[cut:])
		copy(s.held[n:], p[at:])
		return nil
	}
	s.done = true
	return s.send(s.links(), before[cut:], p[at:])
}

// end writes what is left when the document has ended.
func (s *inserter) end() error {
	if s.done {
		return nil
	}
	s.done = true
	if s.scan.atEnd() {
		return s.send(s.links())
	}
	return s.send(s.held[:s.scan.held])
}

func (s *inserter) send(parts ...[]byte) error {
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		if _, err := s.to.Write(p); err != nil {
			return err
		}
	}
	return nil
}
