package edge

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/answer"
	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/language"
	"github.com/quickthorn/quickthorn/internal/page"
	"github.com/quickthorn/quickthorn/internal/session"
)

// What is answered below challenge.Prefix, and how a challenge is shown. A search engine that is doubted comes
// back later when it is told 429 or 503, where 200 would index the check and 403 would drop the page.

// look is what the gate must know of the request.
func (v *visit) look(r *http.Request) *challenge.Visit {
	p := &v.profile
	return &challenge.Visit{
		Context: r.Context(), Header: r.Header, Host: p.Host, Target: p.Target, Secure: p.Scheme == "https",
		Embedded: p.Headers.SecFetchSite.Value == "cross-site" && (p.Headers.SecFetchDest.Value == "iframe" || p.Headers.SecFetchDest.Value == "frame"),
		Client:   p.Client, Family: p.Agent.Family, Shape: p.Headers.Shape, Now: v.start,
		Words: v.edge.Answers.Language(r.Header).Words(),
	}
}

// challenge shows one.
func (e *Edge) challenge(v *visit, w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		e.hold(v, w, r)
		return
	}
	pg, looping := e.Gate.Issue(v.look(r), v.verdict.Ladder)
	if looping {
		v.outcome = &defense.EventOutcome{ID: pg.ID.String(), Kind: pg.Kind.String(), Outcome: "failed"}
		a := answer.New(http.StatusTooManyRequests, language.LoopTitle, language.LoopText)
		a.RetryAfter = 5 * time.Minute
		a.Link, a.LinkText = pg.Pass, language.TryAgain
		if pg.Fallback != "" {
			a.Link, a.LinkText = pg.Fallback, language.LinkWithoutScript
		}
		addCookies(w, pg.Cookies)
		e.answer(v, w, r, a)
		return
	}
	e.show(v, w, r, pg)
}

// show sends a challenge page.
func (e *Edge) show(v *visit, w http.ResponseWriter, r *http.Request, pg *challenge.Page) {
	e.stats.issued[pg.Kind].Add(1)
	if v.outcome == nil {
		v.outcome = &defense.EventOutcome{ID: pg.ID.String(), Kind: pg.Kind.String(), Outcome: "issued"}
	}
	addCookies(w, pg.Cookies)
	a := answer.New(http.StatusTooManyRequests, language.ChallengeTitle, language.None)
	if v.verdict.Status != 0 {
		a.Status = v.verdict.Status
	}
	a.RetryAfter = max(pg.Delay, time.Second)
	a.Embedded = pg.Embedded
	seconds := int((pg.Delay + time.Second - 1) / time.Second)
	task := &page.Task{Ticket: pg.Ticket, Pass: pg.Pass, Return: pg.Return, Fallback: pg.Fallback}
	a.Challenge = task
	switch pg.Kind {
	case defense.ChallengeSilent, defense.ChallengeRefresh:
		a.Kind, a.Text, a.Count = page.Refresh, language.ChallengeWait, seconds
		a.Refresh, a.Delay, a.RefreshAlways = pg.Refresh, seconds, true
		a.Link, a.LinkText = pg.Refresh, language.LinkContinue
		if pg.Kind == defense.ChallengeSilent {
			a.Kind, task.Seen = page.Silent, pg.Seen
		}
	case defense.ChallengeWork:
		a.Kind, a.Text, a.Count = page.Work, language.ChallengeWork, int((pg.Limit+time.Second-1)/time.Second)
		a.Refresh, a.Delay = pg.Refresh, seconds
		task.Algorithm, task.Puzzles, task.Bits, task.Least = pg.Puzzle.Algorithm.String(), pg.Puzzle.Puzzles, pg.Puzzle.Bits, pg.Puzzle.Least
		task.Limit = int(pg.Limit / time.Millisecond)
		task.Script, task.Worker = e.Answers.Script(), e.Answers.Worker()
	case defense.ChallengeQuestion:
		a.Kind, a.Text = page.Question, language.ChallengeQuestion
		words := e.Answers.Language(r.Header).Words()
		task.Word, task.Decoy = words[pg.Word], challenge.TrapField
		for _, i := range pg.Offered {
			task.Words = append(task.Words, words[i])
		}
	case defense.ChallengeCaptcha:
		a.Kind, a.Text = page.Captcha, language.ChallengeCaptcha
		task.Script, task.Module, task.Widget = e.Widget.ScriptURL, e.Widget.Module, e.Widget.Markup()
		a.Directives = e.Widget.Policy()
	}
	if a.More = language.ChallengeWhy; pg.Notice == challenge.NoticeWrong {
		a.More = language.WrongAnswer
	}
	e.answer(v, w, r, a)
}

func addCookies(w http.ResponseWriter, cookies []string) {
	for _, c := range cookies {
		w.Header().Add("Set-Cookie", c)
	}
}

// ownPage answers addresses below challenge.Prefix.
func (e *Edge) ownPage(v *visit, w http.ResponseWriter, r *http.Request) {
	path := v.profile.Path
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case path == challenge.PassPath && (r.Method == http.MethodGet || r.Method == http.MethodPost):
		e.passPage(v, w, r)
		return
	case path == challenge.WayOutPath && reads:
		e.wayOut(v, w, r)
		return
	case strings.HasPrefix(path, page.AssetPrefix) && reads:
		if n, ok := e.Answers.WriteAsset(w, r, strings.TrimPrefix(path, page.AssetPrefix)); ok {
			v.status, v.bytes = http.StatusOK, int64(n)
			return
		}
	case strings.HasPrefix(path, challenge.SeenPath) && reads:
		h := w.Header()
		h.Set("Content-Type", "text/css")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if cookie := e.Gate.Seen(v.look(r), path, r.Header.Get("Sec-Fetch-Dest"), r.Header.Get("Sec-Fetch-Site")); cookie != "" {
			h.Add("Set-Cookie", cookie)
		}
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		v.status = http.StatusOK
		return
	}
	e.answer(v, w, r, answer.New(http.StatusNotFound, language.NotFoundTitle, language.NotFoundText))
}

// wayOut shows the challenge that leads out of the tarpit. Whoever is not in it may take it too, and is none the better for it.
// A person has to show more than patience there; the second kind is for browsers without JavaScript.
func (e *Edge) wayOut(v *visit, w http.ResponseWriter, r *http.Request) {
	var f challenge.Form
	if !f.Parse(v.profile.Query, "") || f.To == "" {
		f.To = "/"
	}
	v.profile.Target = f.To
	v.verdict.Ladder = defense.Ladder{defense.ChallengeWork, defense.ChallengeQuestion}
	e.challenge(v, w, r)
}

// passPage redeems a challenge. What costs nothing to refuse is refused first.
func (e *Edge) passPage(v *visit, w http.ResponseWriter, r *http.Request) {
	if ok, retry := e.Gate.Admit(&v.profile.Client, v.start); !ok {
		e.stats.challenges[challenge.Limited].Add(1)
		a := answer.New(http.StatusTooManyRequests, language.AttemptsTitle, language.AttemptsText)
		a.RetryAfter, a.Count = retry, int(retry/time.Second)+1
		e.answer(v, w, r, a)
		return
	}
	var f challenge.Form
	good := f.Parse(v.profile.Query, "")
	if r.Method == http.MethodPost && good {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, challenge.MaxForm))
		if err != nil {
			e.answer(v, w, r, answer.New(http.StatusBadRequest, language.BadRequestTitle, language.BadRequestText))
			return
		}
		good = f.Parse(string(body), e.Widget.Field)
	}
	if !good {
		f = challenge.Form{}
	}
	res := e.Gate.Redeem(v.look(r), &f)
	e.stats.challenges[res.Outcome].Add(1)
	v.outcome = &defense.EventOutcome{ID: res.ID.String(), Kind: res.Kind.String(), Outcome: "failed"}
	if res.ID == 0 {
		v.outcome.ID = e.requestID(v)
	}
	if res.Outcome == challenge.Passed {
		v.outcome.Outcome = "passed"
		addCookies(w, res.Cookies)
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Location", res.To)
		w.WriteHeader(http.StatusSeeOther)
		v.status = http.StatusSeeOther
		return
	}
	if res.Outcome == challenge.Again {
		if f.Plain || res.Page.Notice == challenge.NoticeEarly || res.Kind == defense.ChallengeSilent {
			v.outcome.Outcome = "issued" // another way, not a failure
		}
		e.show(v, w, r, res.Page)
		return
	}
	e.answer(v, w, r, failure(&res))
}

// failure explains in words what went wrong. None of these pages goes on by itself: a reader who is stuck reads why, finds whom to ask,
// and is not sent round.
func failure(res *challenge.Result) *answer.Answer {
	a := answer.New(http.StatusForbidden, language.SeveralTitle, language.SeveralText)
	a.Link, a.LinkText = res.To, language.TryAgain
	switch res.Outcome {
	case challenge.NoCookie:
		a.Title, a.Text = language.CookieTitle, language.CookieText
	case challenge.Used:
		a.Title, a.Text = language.UsedTitle, language.UsedText
	case challenge.Malformed:
		a.Status, a.Title, a.Text, a.LinkText = http.StatusBadRequest, language.IncompleteTitle, language.IncompleteText, language.StartAgain
	}
	return a
}

// hold keeps what a visitor has sent while the visitor is checked; see challenge.Hold.
func (e *Edge) hold(v *visit, w http.ResponseWriter, r *http.Request) {
	p := &v.profile
	if r.Method != http.MethodPost || !challenge.FromThisSite(r.Header, p.Scheme, r.Host) {
		e.cutOff(v, w, r, answer.New(http.StatusForbidden, language.ForeignFormTitle, language.ForeignFormText))
		return
	}
	kind := r.Header.Get("Content-Type")
	if r.ContentLength > challenge.MaxHeld || !challenge.Holdable(kind) {
		e.cutOff(v, w, r, answer.New(http.StatusRequestEntityTooLarge, language.FormTooLargeTitle, language.FormTooLargeText))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, challenge.MaxHeld))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		e.cutOff(v, w, r, answer.New(http.StatusRequestEntityTooLarge, language.FormTooLargeTitle, language.FormTooLargeText))
		return
	case err != nil:
		e.cutOff(v, w, r, answer.New(http.StatusBadRequest, language.BadRequestTitle, language.BadRequestText))
		return
	}
	e.showHeld(v, w, r, &challenge.Held{ContentType: kind, Body: body})
}

// showHeld shows the page with the button that sends what is held.
func (e *Edge) showHeld(v *visit, w http.ResponseWriter, r *http.Request, sent *challenge.Held) {
	pg, sealed := e.Gate.Hold(v.look(r), sent)
	e.stats.issued[pg.Kind].Add(1)
	v.outcome = &defense.EventOutcome{ID: pg.ID.String(), Kind: pg.Kind.String(), Outcome: "issued"}
	addCookies(w, pg.Cookies)
	a := answer.New(http.StatusTooManyRequests, language.HoldTitle, language.HoldText)
	if v.verdict.Status != 0 {
		a.Status = v.verdict.Status
	}
	a.Kind, a.Count = page.Hold, int(challenge.HoldTime/time.Minute)
	a.More = language.ChallengeWhy
	a.Hold = &page.Form{Action: challenge.SendAddress(pg.Return), Token: sealed}
	e.answer(v, w, r, a)
}

// released turns the request that sends a held form into the one that was held. It reports whether the request goes on; if not,
// it has been answered.
func (e *Edge) released(v *visit, w http.ResponseWriter, r *http.Request, target string) (*http.Request, bool) {
	p := &v.profile
	if ok, retry := e.Gate.Admit(&p.Client, v.start); !ok {
		a := answer.New(http.StatusTooManyRequests, language.AttemptsTitle, language.AttemptsText)
		a.RetryAfter, a.Count = retry, int(retry/time.Second)+1
		e.cutOff(v, w, r, a)
		return nil, false
	}
	if !challenge.FromThisSite(r.Header, p.Scheme, r.Host) {
		e.cutOff(v, w, r, answer.New(http.StatusForbidden, language.ForeignFormTitle, language.ForeignFormText))
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, challenge.MaxSend))
	if err != nil {
		e.cutOff(v, w, r, answer.New(http.StatusBadRequest, language.BadRequestTitle, language.BadRequestText))
		return nil, false
	}
	_, query, _ := strings.Cut(target, "?") // the path stays: only the mark is cut
	p.Target, p.Query = target, query
	sent, res, wait := e.Gate.Release(v.look(r), strings.TrimPrefix(string(body), "token="))
	e.stats.challenges[res.Outcome].Add(1)
	v.outcome = &defense.EventOutcome{ID: res.ID.String(), Kind: res.Kind.String(), Outcome: "failed"}
	if res.ID == 0 {
		v.outcome.ID = e.requestID(v)
	}
	switch res.Outcome {
	case challenge.Passed:
	case challenge.Again:
		e.showHeld(v, w, r, sent)
		return nil, false
	case challenge.NoCookie:
		e.answer(v, w, r, failure(&res))
		return nil, false
	default:
		a := answer.New(http.StatusForbidden, language.HoldGoneTitle, language.HoldGoneText)
		a.Link, a.LinkText = res.To, language.TryAgain
		e.answer(v, w, r, a)
		return nil, false
	}
	v.outcome.Outcome = "passed"
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	v.cookies = res.Cookies
	p.Clearance = res.Clearance
	held := r.Clone(r.Context())
	held.Header.Set("Content-Type", sent.ContentType)
	held.RequestURI = target
	held.URL.RawQuery, held.URL.ForceQuery = query, strings.Contains(target, "?") && query == ""
	held.Body, held.ContentLength = io.NopCloser(strings.NewReader(string(sent.Body))), int64(len(sent.Body))
	held.Header.Set("Content-Length", strconv.Itoa(len(sent.Body)))
	return held, true
}

// setCookies adds to the upstream's answer a clearance that was just earned, or one that makes the client's as good as new.
// A cache between here and the reader must not hand it to others, so one is renewed only on pages that no cache may keep.
func (v *visit) setCookies(status int, h http.Header) {
	if s := v.edge.Sessions; s != nil && len(h["Set-Cookie"]) > 0 {
		p := &v.profile
		h["Set-Cookie"] = append(h["Set-Cookie"], s.Renew(v.proof, &session.Answer{
			Site: p.Site, Method: p.Method, Request: v.request.Header, Status: status, Header: h, Secure: p.Scheme == "https", Now: v.start,
		})...)
	}
	cookies := v.cookies
	if cookies == nil {
		p := &v.profile
		if !p.Clearance.Valid || p.Kind != defense.KindNavigation || status != http.StatusOK || v.verdict.Score > renewScore || !private(h) {
			return
		}
		renewed := v.edge.Gate.Renew(&p.Clearance, v.look(v.request))
		if renewed == "" {
			return
		}
		cookies = []string{renewed}
	}
	h["Set-Cookie"] = append(h["Set-Cookie"], cookies...)
}

// renewScore is the highest score of a request that has its clearance renewed.
const renewScore = 30

// private reports whether no shared cache may keep an answer (RFC 9111 section 3).
func private(h http.Header) bool {
	for _, line := range h["Cache-Control"] {
		line = strings.ToLower(line)
		if strings.Contains(line, "private") || strings.Contains(line, "no-store") || strings.Contains(line, "no-cache") {
			return true
		}
	}
	return len(h["Set-Cookie"]) > 0 // it is about one reader already
}
