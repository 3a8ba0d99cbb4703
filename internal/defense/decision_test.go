package defense

import (
	"strings"
	"testing"
	"time"
)

func TestADecisionOnAFingerprintHasItsCanonicalText(t *testing.T) {
	d := Decision{Scope: ScopeFingerprint, Value: " Program:9F2C41D07B3EA865 ", Action: Challenge, Origin: "engine", Created: time.Unix(1, 0)}
	if err := d.Normalize(); err != nil || d.Value != "program:9f2c41d07b3ea865" || d.Scope != ScopeFingerprint {
		t.Errorf("%+v, %v", d, err)
	}
	for _, bad := range []string{"", "program", "program:12", "192.0.2.1", "program:0000000000000000"} {
		d := Decision{Scope: ScopeFingerprint, Value: bad, Action: Challenge, Origin: "engine"}
		if err := d.Normalize(); err == nil || !strings.HasPrefix(err.Error(), "value: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, s := range []Scope{ScopeASN, ScopeAll} {
		d := Decision{Scope: s, Value: "x", Action: Challenge, Origin: "engine"}
		if err := d.Normalize(); err == nil || !strings.Contains(err.Error(), "fingerprint") {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestADecisionOnATokenHasItsCanonicalText(t *testing.T) {
	d := Decision{Scope: ScopeToken, Value: " 00AB34567890CDEF", Action: Deny, Origin: "operator", Created: time.Unix(1, 0)}
	if err := d.Normalize(); err != nil || d.Value != "00ab34567890cdef" {
		t.Errorf("%+v, %v", d, err)
	}
	for _, bad := range []string{"", "0", "0000000000000000", "00ab34567890cde", "00ab34567890cdefa", "qt1.name.abc", "+0ab34567890cdef"} {
		d := Decision{Scope: ScopeToken, Value: bad, Action: Deny, Origin: "operator"}
		if err := d.Normalize(); err == nil || !strings.HasPrefix(err.Error(), "value: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
