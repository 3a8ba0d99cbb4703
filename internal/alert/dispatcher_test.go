package alert_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/quickthorn/quickthorn/internal/alert"
)

// box is a channel that keeps what it is sent.
type box struct {
	name string
	// answer says what becomes of the attempt with that number, the first is 1; nil: it is taken.
	answer func(ctx context.Context, attempt int) error

	mu       sync.Mutex
	attempts []time.Time
	got      []arrival
}

type arrival struct {
	*alert.Message
	when time.Duration // since the test began
}

func (b *box) Name() string { return b.name }

func (b *box) Send(ctx context.Context, m *alert.Message) error {
	b.mu.Lock()
	b.attempts = append(b.attempts, time.Now())
	n := len(b.attempts)
	b.mu.Unlock()
	if b.answer != nil {
		if err := b.answer(ctx, n); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, arrival{m, time.Since(epoch)})
	return nil
}

func (b *box) messages() []arrival {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

// tries returns when attempts were made.
func (b *box) tries() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.attempts)
}

// tell describes what arrived, one line for each message.
func (b *box) tell() string {
	var s strings.Builder
	for _, m := range b.messages() {
		fmt.Fprintf(&s, "%s %s %s %q count=%d items=%d\n", m.when, m.Reason, m.Severity, m.Title, m.Count, len(m.Items))
	}
	return s.String()
}

// epoch is when the time of synctest begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func options(channels ...alert.Channel) alert.Options {
	return alert.Options{Channels: channels, Now: time.Now, Random: func() uint64 { return 0 }, Log: slog.New(slog.DiscardHandler)}
}

func build(t *testing.T, o alert.Options) *alert.Dispatcher {
	t.Helper()
	d, err := alert.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// run runs d until the function is called that it returns.
func run(t *testing.T, d *alert.Dispatcher) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func expect(t *testing.T, b *box, want string) {
	t.Helper()
	if got := b.tell(); got != want {
		t.Errorf("channel %s got\n%swant\n%s", b.name, got, want)
	}
}

func campaign(title string) alert.Alert {
	return alert.Alert{Kind: "campaign", Severity: alert.Warning, Site: "shop", Title: title}
}

func TestASiegeOfTenThousandAlertsIsOneMessageWithNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail"}
		d := build(t, options(b))
		stop := run(t, d)
		defer stop()
		for i := range 10_000 {
			d.Raise(alert.Alert{
				Kind: "client", Severity: alert.Warning, Site: "shop", Title: fmt.Sprintf("Client %d is denied", i), CaseID: fmt.Sprint("case-", i),
				Numbers: []alert.Number{{Name: "requests", Value: float64(i % 100)}, {Name: "score", Value: float64(i) / 10_000, Level: true}},
			})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		expect(t, b, "30s alert warning \"Client 0 is denied (10,000 alerts)\" count=10000 items=1\n")
		item := b.messages()[0].Items[0]
		want := []alert.Total{{Name: "requests", Sum: 495_000, Max: 99}, {Name: "score", Max: 0.9999, Level: true}}
		if !slices.Equal(item.Numbers, want) {
			t.Errorf("numbers are %v, want %v", item.Numbers, want)
		}
		if len(item.Examples) != 5 || len(item.CaseIDs) != 8 {
			t.Errorf("%d examples and %d cases are told, want 5 and 8", len(item.Examples), len(item.CaseIDs))
		}
		if text := b.messages()[0].PlainText(); !strings.Contains(text, "requests: 495,000 in all, 99 at most") || !strings.Contains(text, "score: 1\n") {
			t.Errorf("the text is\n%s", text)
		}
	})
}

func TestAlertsAreSentAfterTheGroupWaitAndThenOncePerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail"}
		d := build(t, options(b))
		stop := run(t, d)
		defer stop()
		for range 60 { // one a minute for an hour
			d.Raise(campaign("A campaign"))
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Hour)
		d.Raise(campaign("Another campaign"))
		time.Sleep(time.Minute)
		expect(t, b, `30s alert warning "A campaign" count=1 items=1
15m30s alert warning "A campaign (15 alerts)" count=15 items=1
30m30s alert warning "A campaign (15 alerts)" count=15 items=1
45m30s alert warning "A campaign (15 alerts)" count=15 items=1
1h0m30s alert warning "A campaign (14 alerts)" count=14 items=1
2h0m30s alert warning "Another campaign" count=1 items=1
`)
	})
}

func TestWhatIsMoreSevereThanAllBeforeDoesNotWaitForTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail"}
		d := build(t, options(b))
		stop := run(t, d)
		defer stop()
		worse := campaign("The site is slow")
		worse.Severity = alert.Critical
		d.Raise(campaign("A campaign"))
		time.Sleep(time.Minute)
		d.Raise(campaign("It goes on"))
		time.Sleep(time.Minute)
		d.Raise(worse)
		time.Sleep(time.Minute)
		d.Raise(worse)
		d.Raise(campaign("It goes on"))
		time.Sleep(time.Hour)
		expect(t, b, `30s alert warning "A campaign" count=1 items=1
2m30s alert critical "The site is slow (2 alerts)" count=2 items=1
17m30s alert critical "The site is slow (2 alerts)" count=2 items=1
`)
	})
}

func TestKindsAndSitesAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail"}
		o := options(b)
		o.MaxGroups = 3
		d := build(t, o)
		stop := run(t, d)
		defer stop()
		for i, site := range []string{"a", "b", "a", "", "c", "d"} {
			a := campaign("Site " + site)
			a.Site = site
			d.Raise(a)
			time.Sleep(time.Duration(i) * time.Second)
		}
		time.Sleep(time.Minute)
		var got []string
		for _, m := range b.messages() {
			got = append(got, m.Kind+"/"+m.Site+" "+m.Title)
		}
		slices.Sort(got)
		want := []string{"campaign/ Site", "campaign/a Site a (2 alerts)", "campaign/b Site b", "others/ Site c (2 alerts)"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestBeyondTheHoursMessagesThereIsOneMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail"}
		o := options(b)
		o.MessagesPerHour, o.GroupInterval = 3, time.Minute
		d := build(t, o)
		stop := run(t, d)
		defer stop()
		for i := range 50 {
			a := campaign("A campaign")
			a.Site = []string{"a", "b"}[i%2]
			d.Raise(a)
			time.Sleep(time.Minute)
		}
		time.Sleep(2 * time.Hour)
		expect(t, b, `30s alert warning "A campaign" count=1 items=1
1m30s alert warning "A campaign" count=1 items=1
2m30s alert warning "A campaign" count=1 items=1
1h0m30s more warning "47 more: A campaign" count=47 items=2
`)
		m := b.messages()
		if m[1].Note != "" || !strings.Contains(m[2].Note, "2000-01-01 01:00:30 UTC") {
			t.Errorf("the notes are %q and %q; the last of the hour tells when there are more", m[1].Note, m[2].Note)
		}
	})
}

func TestRulesChooseChannels(t *testing.T) {
	rules := []alert.Rule{
		{Kinds: []string{"noise"}, Silence: true},
		{Severity: alert.Critical},
		{Kinds: []string{"store", "intake"}, Channels: []string{"ops"}},
		{Severity: alert.Warning, Sites: []string{"shop"}, Channels: []string{"mail"}},
	}
	for _, c := range []struct {
		say   string
		rules []alert.Rule
		a     alert.Alert
		want  string
	}{
		{"without rules a warning goes everywhere", nil, alert.Alert{Severity: alert.Warning}, "mail ops"},
		{"without rules what is good to know goes nowhere", nil, alert.Alert{Severity: alert.Info}, ""},
		{"an empty list of rules sends nothing", []alert.Rule{}, alert.Alert{Severity: alert.Critical}, ""},
		{"a silent rule comes first", rules, alert.Alert{Kind: "noise", Severity: alert.Critical}, ""},
		{"a rule without channels means all", rules, alert.Alert{Kind: "store", Severity: alert.Critical}, "mail ops"},
		{"a rule by kind", rules, alert.Alert{Kind: "intake", Severity: alert.Info}, "ops"},
		{"a rule by site and severity", rules, alert.Alert{Kind: "client", Severity: alert.Warning, Site: "shop"}, "mail"},
		{"not severe enough", rules, alert.Alert{Kind: "client", Severity: alert.Info, Site: "shop"}, ""},
		{"another site", rules, alert.Alert{Kind: "client", Severity: alert.Warning, Site: "wiki"}, ""},
		{"no site", rules, alert.Alert{Kind: "client", Severity: alert.Warning}, ""},
	} {
		t.Run(c.say, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mail, ops := &box{name: "mail"}, &box{name: "ops"}
				o := options(mail, ops)
				o.Rules = c.rules
				d := build(t, o)
				d.Raise(c.a) // before it runs
				stop := run(t, d)
				time.Sleep(time.Minute)
				stop()
				var got []string
				for _, b := range []*box{mail, ops} {
					if len(b.messages()) > 0 {
						got = append(got, b.name)
					}
				}
				if s := strings.Join(got, " "); s != c.want {
					t.Errorf("it goes to %q, want %q", s, c.want)
				}
			})
		})
	}
}

func TestQuietHoursEndWithOneDigest(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail"}
		o := options(b)
		// It is 01:00 in Berlin when the test begins.
		o.Rules = []alert.Rule{{Quiet: &alert.QuietHours{From: 22 * 60, To: 7*60 + 30, Location: berlin, CriticalPasses: true}}}
		d := build(t, o)
		stop := run(t, d)
		defer stop()
		for range 120 {
			d.Raise(campaign("A campaign"))
			d.Raise(alert.Alert{Kind: "posture", Title: "Guarded"})
			time.Sleep(time.Minute)
		}
		d.Raise(alert.Alert{Kind: "store", Severity: alert.Critical, Title: "The disk is full"})
		time.Sleep(18*time.Hour + 59*time.Minute + 50*time.Second) // 21:59:50 in Berlin
		d.Raise(campaign("In the evening"))                        // due at 22:00:20
		time.Sleep(24 * time.Hour)
		expect(t, b, `2h0m30s alert critical "The disk is full" count=1 items=1
6h30m0s digest warning "240 alerts in quiet hours: A campaign" count=240 items=2
30h30m0s digest warning "1 alert in quiet hours: In the evening" count=1 items=1
`)
	})
}

func TestQuietHoursHoldCriticalAlertsUnlessTheyMayPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail"}
		o := options(b)
		o.Rules = []alert.Rule{{Quiet: &alert.QuietHours{From: 0, To: 6 * 60}}}
		d := build(t, o)
		stop := run(t, d)
		defer stop()
		d.Raise(alert.Alert{Kind: "store", Severity: alert.Critical, Title: "The disk is full"})
		time.Sleep(12 * time.Hour)
		expect(t, b, "6h0m0s digest critical \"1 alert in quiet hours: The disk is full\" count=1 items=1\n")
	})
}

func TestAFailedAttemptIsRepeatedLaterAndLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := &box{name: "mail", answer: func(_ context.Context, n int) error {
			if n < 12 {
				return errors.New("connection refused")
			}
			return nil
		}}
		o := options(b)
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		d := build(t, o)
		stop := run(t, d)
		d.Raise(campaign("A campaign"))
		time.Sleep(time.Hour)
		var waits []time.Duration
		tries := b.tries()
		for i := 1; i < len(tries); i++ {
			waits = append(waits, tries[i].Sub(tries[i-1]))
		}
		const s = time.Second
		want := []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 64 * s, 128 * s, 150 * s, 150 * s, 150 * s}
		if !slices.Equal(waits, want) {
			t.Errorf("the waits are %v, want %v", waits, want)
		}
		if len(b.messages()) != 1 {
			t.Errorf("%d messages arrived, want 1", len(b.messages()))
		}
		stop()
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "failures=11") {
			t.Errorf("the beginning and the end of the trouble are to be logged, not\n%s", &log)
		}
	})
}

func TestTheWaitBetweenAttemptsIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail", answer: func(context.Context, int) error { return errors.New("no") }}
		o := options(b)
		o.Random = func() uint64 { return uint64(time.Second - 1) }
		d := build(t, o)
		stop := run(t, d)
		defer stop()
		d.Raise(campaign("A campaign"))
		time.Sleep(35 * time.Second)
		tries := b.tries()
		if got := tries[1].Sub(tries[0]); got != 2*time.Second-1 {
			t.Errorf("the second attempt comes after %s, want nearly 2 s", got)
		}
	})
}

func TestAMessageIsGivenUp(t *testing.T) {
	refused := errors.New("no such recipient")
	for _, c := range []struct {
		say      string
		err      error
		retryFor time.Duration
		attempts int
	}{
		{"at once when it is refused for good", fmt.Errorf("send: %w", &alert.SendError{Err: refused, Permanent: true}), 0, 1},
		{"after an hour of attempts", refused, 0, 31},
		{"when the receiver asks for more patience than there is", &alert.SendError{Err: refused, After: 2 * time.Hour}, 0, 1},
		{"after the patience that the receiver asks for", &alert.SendError{Err: refused, After: 25 * time.Minute}, 0, 3},
		{"after one attempt where that is wanted", refused, -1, 1},
	} {
		t.Run(c.say, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				b := &box{name: "mail", answer: func(context.Context, int) error { return c.err }}
				o := options(b)
				o.RetryFor = c.retryFor
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
				d := build(t, o)
				stop := run(t, d)
				defer stop()
				d.Raise(campaign("A campaign"))
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				if n := len(b.tries()); n != c.attempts {
					t.Errorf("%d attempts, want %d", n, c.attempts)
				}
				s := d.Status()[0]
				if s.Failed != 1 || s.Sent != 0 || s.Queued != 0 || s.Problem != c.err.Error() {
					t.Errorf("the status is %+v", s)
				}
				if strings.Count(log.String(), "given up") != 1 || !strings.Contains(log.String(), "A campaign") {
					t.Errorf("the log is to tell what was given up, not\n%s", &log)
				}
			})
		})
	}
}

func TestAChannelThatHangsHoldsUpNeitherOthersNorWhoRaises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := &box{name: "hangs", answer: func(ctx context.Context, _ int) error {
			if time.Since(epoch) < 100*time.Minute {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		works := &box{name: "works"}
		o := options(hangs, works)
		o.Queue, o.GroupInterval, o.MessagesPerHour, o.RetryFor = 2, time.Second, 1000, 24*time.Hour
		d := build(t, o)
		stop := run(t, d)
		for range 100 {
			d.Raise(campaign("A campaign"))
			time.Sleep(time.Minute)
		}
		if n := len(works.messages()); n != 100 {
			t.Errorf("%d messages arrived by the channel that works, want 100", n)
		}
		time.Sleep(10 * time.Minute)
		stop()
		var counts []int
		for _, m := range hangs.messages() {
			counts = append(counts, m.Count)
		}
		// One was being sent and two were in the queue; the others have found no room there, and none is lost.
		if want := []int{1, 1, 1, 97}; !slices.Equal(counts, want) {
			t.Errorf("the channel that hung got messages of %v alerts, want %v", counts, want)
		}
	})
}

func TestTheEndSendsWhatHasBeenGatheredInOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail"}
		o := options(b)
		o.Rules = []alert.Rule{{Kinds: []string{"posture"}, Quiet: &alert.QuietHours{From: 0, To: 60}}, {}}
		d := build(t, o)
		stop := run(t, d)
		d.Raise(alert.Alert{Kind: "posture", Title: "Guarded"})
		time.Sleep(time.Minute)
		d.Raise(campaign("A campaign"))
		stop()
		expect(t, b, "1m0s stop warning \"2 alerts before the stop: A campaign\" count=2 items=2\n")
		d.Raise(campaign("Too late"))
		if got := metrics(t, d, "quickthorn_alerts_unsent"); got != `quickthorn_alerts_unsent_total{reason="late"} 1
quickthorn_alerts_unsent_total{reason="unrouted"} 0
` {
			t.Errorf("the metrics are\n%s", got)
		}
		if err := d.Run(t.Context()); err == nil {
			t.Error("Run can be called twice")
		}
	})
}

func TestAtTheEndAFailingChannelGetsItsLastChanceAndNoMoreTimeThanThereIs(t *testing.T) {
	for _, c := range []struct {
		say    string
		answer func(ctx context.Context, n int) error
		sent   int
		within time.Duration
	}{
		{"it works again", func(_ context.Context, n int) error {
			if n < 9 {
				return errors.New("no")
			}
			return nil
		}, 1, 0},
		{"it fails on", func(context.Context, int) error { return errors.New("no") }, 0, 5 * time.Second},
		{"it hangs", func(ctx context.Context, n int) error {
			if n < 9 {
				return errors.New("no")
			}
			<-ctx.Done()
			return ctx.Err()
		}, 0, 5 * time.Second},
	} {
		t.Run(c.say, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				b := &box{name: "mail", answer: c.answer}
				o := options(b)
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
				d := build(t, o)
				stop := run(t, d)
				d.Raise(campaign("A campaign"))
				time.Sleep(30*time.Second + 200*time.Second) // within the wait after the eighth attempt
				if n := len(b.tries()); n != 8 {
					t.Fatalf("%d attempts were made", n)
				}
				before := time.Now()
				stop()
				if took := time.Since(before); took != c.within {
					t.Errorf("the end takes %s, want %s", took, c.within)
				}
				if n := len(b.messages()); n != c.sent {
					t.Errorf("%d messages arrived, want %d", n, c.sent)
				}
				if told := strings.Contains(log.String(), "not sent before the end"); told != (c.sent == 0) {
					t.Errorf("the log is\n%s", &log)
				}
			})
		})
	}
}

func TestTestSendsAtOnceAndSaysWhatHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := &box{name: "good"}
		bad := &box{name: "bad", answer: func(context.Context, int) error { return errors.New("the server says no") }}
		hangs := &box{name: "hangs", answer: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }}
		o := options(good, bad, hangs)
		o.Rules = []alert.Rule{{Silence: true}}
		d := build(t, o)
		want := []alert.Result{{Channel: "good"}, {Channel: "bad", Problem: "the server says no"}, {Channel: "hangs", Seconds: 30, Problem: "context deadline exceeded"}}
		if got := d.Test(t.Context(), ""); !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := d.Test(t.Context(), "bad"); !slices.Equal(got, want[1:2]) {
			t.Errorf("got %+v, want %+v", got, want[1:2])
		}
		if got := d.Test(t.Context(), "pager"); len(got) != 1 || got[0].Problem != `there is no alert channel "pager"; there are good, bad, hangs` {
			t.Errorf("got %+v", got)
		}
		if m := good.messages(); len(m) != 1 || m[0].Reason != alert.ReasonTest || m[0].Kind != alert.KindTest {
			t.Errorf("got %+v", m)
		}
	})
}

func TestWrongSettingsAreNamed(t *testing.T) {
	mail := &box{name: "mail"}
	for _, c := range []struct {
		want string
		set  func(*alert.Options)
	}{
		{"Now, Random and Log are required", func(o *alert.Options) { o.Now = nil }},
		{`"mail": another one has that name`, func(o *alert.Options) { o.Channels = append(o.Channels, mail) }},
		{`"a b": a name has letters`, func(o *alert.Options) { o.Channels = []alert.Channel{&box{name: "a b"}} }},
		{`"": a name has 1 to 64 characters`, func(o *alert.Options) { o.Channels = []alert.Channel{&box{}} }},
		{`rule 2: there is no alert channel "pager"; there are mail`, func(o *alert.Options) { o.Rules = []alert.Rule{{}, {Channels: []string{"pager"}}} }},
		{"a silent rule has neither channels nor quiet hours", func(o *alert.Options) { o.Rules = []alert.Rule{{Silence: true, Channels: []string{"mail"}}} }},
		{"no such severity", func(o *alert.Options) { o.Rules = []alert.Rule{{Severity: 9}} }},
		{"from 08:00 to 08:00 is no time", func(o *alert.Options) { o.Rules = []alert.Rule{{Quiet: &alert.QuietHours{From: 480, To: 480}}} }},
		{"from 00:00 to 23:59", func(o *alert.Options) { o.Rules = []alert.Rule{{Quiet: &alert.QuietHours{From: 480, To: 1440}}} }},
	} {
		o := options(mail)
		c.set(&o)
		if _, err := alert.New(o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("the error is %v, want one with %q", err, c.want)
		}
	}
}

func TestMessagesAreDocumentedJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail"}
		d := build(t, options(b))
		stop := run(t, d)
		d.Raise(alert.Alert{
			Kind: "campaign", Severity: alert.Warning, Site: "shop", Title: "A campaign", Text: "Of many addresses.", CaseID: "01C", Link: "https://admin.example/cases/01C",
			Numbers: []alert.Number{{Name: "requests", Value: 3, Unit: ""}, {Name: "sent", Value: 2048, Unit: "bytes"}}, Count: 2,
		})
		stop()
		body, err := json.MarshalIndent(b.messages()[0].Message, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		want := `{
 "schema": 1,
 "id": "00VHNCZB00000G000000000000",
 "reason": "stop",
 "severity": "warning",
 "kind": "campaign",
 "site": "shop",
 "title": "A campaign (2 alerts)",
 "count": 2,
 "at": "2000-01-01T00:00:00Z",
 "items": [
  {
   "kind": "campaign",
   "site": "shop",
   "severity": "warning",
   "title": "A campaign",
   "text": "Of many addresses.",
   "link": "https://admin.example/cases/01C",
   "count": 2,
   "caseIds": [
    "01C"
   ],
   "numbers": [
    {
     "name": "requests",
     "sum": 3,
     "max": 3
    },
    {
     "name": "sent",
     "unit": "bytes",
     "sum": 2048,
     "max": 2048
    }
   ],
   "first": "2000-01-01T00:00:00Z",
   "last": "2000-01-01T00:00:00Z"
  }
 ]
}`
		if got := string(body); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestMetricsTellOfEachChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := &box{name: "bad", answer: func(context.Context, int) error { return &alert.SendError{Err: io.EOF, Permanent: true} }}
		d := build(t, options(bad, &box{name: "good"}))
		stop := run(t, d)
		defer stop()
		d.Raise(campaign("A campaign"))
		d.Raise(alert.Alert{Kind: "posture"})
		time.Sleep(time.Minute)
		d.Raise(campaign("A campaign"))
		synctest.Wait()
		want := `quickthorn_alert_channel_up{channel="bad"} 0
quickthorn_alert_channel_up{channel="good"} 1
quickthorn_alert_messages_queued{channel="bad"} 0
quickthorn_alert_messages_queued{channel="good"} 0
quickthorn_alert_messages_total{channel="bad",outcome="abandoned"} 0
quickthorn_alert_messages_total{channel="bad",outcome="failed"} 1
quickthorn_alert_messages_total{channel="bad",outcome="sent"} 0
quickthorn_alert_messages_total{channel="good",outcome="abandoned"} 0
quickthorn_alert_messages_total{channel="good",outcome="failed"} 0
quickthorn_alert_messages_total{channel="good",outcome="sent"} 1
quickthorn_alert_retries_total{channel="bad"} 0
quickthorn_alert_retries_total{channel="good"} 0
quickthorn_alerts_raised_total{severity="critical"} 0
quickthorn_alerts_raised_total{severity="info"} 1
quickthorn_alerts_raised_total{severity="warning"} 2
quickthorn_alerts_unsent_total{reason="late"} 0
quickthorn_alerts_unsent_total{reason="unrouted"} 1
quickthorn_alerts_waiting{channel="bad"} 1
quickthorn_alerts_waiting{channel="good"} 1
`
		if got := metrics(t, d, "quickthorn_alert"); got != want {
			t.Errorf("the metrics are\n%s\nwant\n%s", got, want)
		}
	})
}

// metrics returns what c shows under names that begin with prefix.
func metrics(t *testing.T, c prometheus.Collector, prefix string) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var s strings.Builder
	for l := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(l, prefix) {
			s.WriteString(l)
		}
	}
	return s.String()
}

func TestManyMayRaiseAtOnce(t *testing.T) {
	b := &box{name: "mail"}
	d := build(t, options(b))
	stop := run(t, d)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				d.Raise(campaign("A campaign"))
				d.Status()
			}
		})
	}
	all.Wait()
	stop()
	n := 0
	for _, m := range b.messages() {
		n += m.Count
	}
	if n != 8000 {
		t.Errorf("%d alerts arrived, want 8000", n)
	}
}

func BenchmarkRaise(b *testing.B) {
	d, err := alert.New(options(&box{name: "mail"}, &box{name: "ops"}))
	if err != nil {
		b.Fatal(err)
	}
	a := campaign("A campaign of many addresses that share a fingerprint")
	a.Numbers = []alert.Number{{Name: "requests", Value: 12}, {Name: "clients", Value: 3}}
	b.ReportAllocs()
	for b.Loop() {
		d.Raise(a)
	}
}
