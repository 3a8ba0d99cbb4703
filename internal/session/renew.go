package session

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSet bounds the Set-Cookie lines of an answer that are looked at.
const maxSet = 64

// Answer is the upstream's answer to a request.
type Answer struct {
	Site    string
	Method  string      // of the request
	Request http.Header // of the request, with the site's own cookies
	Status  int
	Header  http.Header // of the answer, with what the upstream sets
	Secure  bool        // the client uses https: a Secure cookie on plain HTTP would be dropped
	Now     time.Time
}

// Renew returns the Set-Cookie values to add to an answer, given what Read has found in the request: none, or one that makes, renews or deletes the proof.
//
// A cookie that the answer sets earns a proof if it is one of Options.Names, or without any names if it is HttpOnly, was not sent with that value, and
// the answer is one to a POST with a status below 400. One that was proved before is proved again, whatever the answer.
func (p *Prover) Renew(proof Proof, a *Answer) []string {
	lines := a.Header["Set-Cookie"]
	if len(lines) == 0 {
		return nil
	}
	lines = lines[:min(len(lines), maxSet)]
	kept := p.kept(proof, a)
	before := slices.Clone(kept)
	var set []string // names: an answer that also deletes a cookie, for another path, has not ended the session
	for _, line := range lines {
		var c setCookie
		if !c.parse(line, a.Now) || c.deleted {
			continue
		}
		was := slices.ContainsFunc(kept, named(c.name))
		if !was && !p.earns(&c, a) {
			continue
		}
		kept = slices.DeleteFunc(kept, named(c.name))
		set = append(set, c.name)
		if len(c.value) < MinValue {
			continue
		}
		age := MaxAge
		if c.age > 0 {
			age = min(age, c.age)
		}
		kept = append(kept, (*p.keys.Load())[0].make(a.Site, c.name, c.value, a.Now.Add(age)))
	}
	for _, line := range lines {
		var c setCookie
		if c.parse(line, a.Now) && c.deleted && !slices.Contains(set, c.name) {
			kept = slices.DeleteFunc(kept, named(c.name))
		}
	}
	switch {
	case slices.Equal(kept, before):
		return nil
	case len(kept) == 0:
		return []string{cookie("", 0, a.Secure)}
	}
	kept = kept[max(0, len(kept)-maxProofs):]
	var last int64
	text := []byte(version)
	for _, e := range kept {
		last = max(last, e.expires())
		text = append(text, '.')
		text = encoding.AppendEncode(text, e.raw[:])
	}
	return []string{cookie(string(text), last-a.Now.Unix(), a.Secure)}
}

// kept returns the entries of a proof that are good.
func (p *Prover) kept(proof Proof, a *Answer) []*entry {
	var out []*entry
	for rest := entries(proof.text); len(out) < maxProofs; {
		e := &entry{}
		if rest = e.next(rest); !e.ok {
			break
		}
		if p.proves(e, a.Request["Cookie"], a.Site, a.Now) {
			out = append(out, e)
		}
	}
	return out
}

func named(name string) func(*entry) bool {
	t := tagOf(name)
	return func(e *entry) bool { return e.tag() == t }
}

// earns reports whether a cookie that was not proved before is.
func (p *Prover) earns(c *setCookie, a *Answer) bool {
	if len(c.value) < MinValue {
		return false
	}
	if len(p.names) > 0 {
		return slices.ContainsFunc(p.names, func(n string) bool {
			if beginning, ok := strings.CutSuffix(n, "*"); ok {
				return strings.HasPrefix(c.name, beginning)
			}
			return n == c.name
		})
	}
	if !c.httpOnly || a.Method != http.MethodPost || a.Status >= http.StatusBadRequest {
		return false
	}
	sent := false
	eachPair(a.Request["Cookie"], func(name, value string) bool {
		sent = name == c.name && value == c.value
		return sent
	})
	return !sent
}

// cookie returns a Set-Cookie value; an age of 0 deletes the cookie.
func cookie(value string, seconds int64, secure bool) string {
	// Max-Age, not Expires: the client's clock may be wrong by a day.
	s := Cookie + "=" + value + "; Path=/; Max-Age=" + strconv.FormatInt(seconds, 10) + "; HttpOnly; SameSite=Lax"
	if secure {
		s += "; Secure"
	}
	return s
}
