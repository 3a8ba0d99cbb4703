package entry

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const key = "an edge's key, long enough"

var (
	now   = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	guest = Guest{Address: netip.MustParseAddr("203.0.113.7"), Site: "gazette", Scheme: "https", RequestID: "01J", WayOut: "/.quickthorn/way-out"}
)

func signedRequest(t *testing.T) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://www.example.org/a%2Fb?c=d", nil)
	Sign(r, &guest, key, now)
	return r
}

func TestAnEdgesWordIsBelieved(t *testing.T) {
	g, err := Verify(signedRequest(t), []string{"another key, tried before", key}, now.Add(50*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if g != guest {
		t.Errorf("got %+v, want %+v", g, guest)
	}
}

func TestAClientWithoutAddressIsStillAGuest(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	Sign(r, &Guest{}, key, now)
	if g, err := Verify(r, []string{key}, now); err != nil || g.Address.IsValid() {
		t.Errorf("got %+v, %v", g, err)
	}
}

func TestNobodyElsesWordIs(t *testing.T) {
	for name, change := range map[string]func(r *http.Request){
		"no signature":           func(r *http.Request) { r.Header.Del(HeaderSignature) },
		"another method":         func(r *http.Request) { r.Method = http.MethodHead },
		"another host":           func(r *http.Request) { r.Host = "other.example.org" },
		"another address":        func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/other", "" },
		"another encoding of it": func(r *http.Request) { r.URL.RawPath = "/a%2fb" },
		"another query":          func(r *http.Request) { r.URL.RawQuery = "c=e" },
		"another client":         func(r *http.Request) { r.Header.Set(HeaderClient, "203.0.113.8") },
		"another site":           func(r *http.Request) { r.Header.Set(HeaderSite, "x") },
		"another way out":        func(r *http.Request) { r.Header.Set(HeaderWayOut, "https://evil.example/") },
		"what was moved from one header into the next": func(r *http.Request) {
			r.Header.Set(HeaderSite, "gazett")
			r.Header.Set(HeaderScheme, "ehttps")
		},
		"half a signature": func(r *http.Request) {
			r.Header.Set(HeaderSignature, r.Header.Get(HeaderSignature)[:40])
		},
		"another time": func(r *http.Request) {
			r.Header.Set(HeaderSignature, strings.Replace(r.Header.Get(HeaderSignature), "t=1", "t=2", 1))
		},
		"no hexadecimal": func(r *http.Request) { r.Header.Set(HeaderSignature, "t=1772366400,v1=xyz") },
	} {
		t.Run(name, func(t *testing.T) {
			r := signedRequest(t)
			change(r)
			if g, err := Verify(r, []string{key}, now); err == nil {
				t.Errorf("believed: %+v", g)
			}
		})
	}
	for name, at := range map[string]time.Time{"old": now.Add(61 * time.Second), "from the future": now.Add(-61 * time.Second)} {
		if _, err := Verify(signedRequest(t), []string{key}, at); err == nil {
			t.Errorf("a signature that is %s is believed", name)
		}
	}
	if _, err := Verify(signedRequest(t), []string{"", "a key that is not the edge's"}, now); err == nil {
		t.Error("another key is as good")
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	Sign(r, &guest, "", now)
	if _, err := Verify(r, []string{""}, now); err == nil {
		t.Error("no key is as good as a key")
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("t=1772366400,v1=00", "203.0.113.7", "s", "/")
	f.Add("t=,v1=", "", "", "")
	f.Fuzz(func(t *testing.T, signature, client, site, path string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = path
		r.Header.Set(HeaderSignature, signature)
		r.Header.Set(HeaderClient, client)
		r.Header.Set(HeaderSite, site)
		if g, err := Verify(r, []string{key}, now); err == nil {
			t.Errorf("believed: %+v", g)
		}
	})
}
