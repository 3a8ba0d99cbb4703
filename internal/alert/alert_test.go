package alert_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/quickthorn/quickthorn/internal/alert"
	"github.com/quickthorn/quickthorn/internal/plain"
)

// sent returns the message that comes of raising one alert.
func sent(t *testing.T, a alert.Alert) (m *alert.Message) {
	t.Helper()
	b := &box{name: "mail"}
	o := options(b)
	o.Rules = []alert.Rule{{}}
	d := build(t, o)
	d.Raise(a)
	run(t, d)()
	if n := len(b.messages()); n != 1 {
		t.Fatalf("%d messages came of one alert", n)
	}
	return b.messages()[0].Message
}

func TestHostileTextsAreMadePlainAndShort(t *testing.T) {
	long := strings.Repeat("é", 5000)
	m := sent(t, alert.Alert{
		Kind: "campaign\r\nBcc: x@example.com", Severity: 77, Site: "shop\x00",
		Title: "Path /\x1b[2J\r\nSubject: forged\u202e" + long, Text: "one\ntwo\r\nthree\x9b" + long,
		Numbers: []alert.Number{{Name: "not a number", Value: math.NaN()}, {Name: "endless", Value: math.Inf(1)}, {Name: "good\n", Value: 1, Unit: "b\tb"}},
		CaseID:  "01C\n", Link: "javascript:alert(1)", Count: -5,
	})
	i := m.Items[0]
	if i.Kind != "campaign  Bcc: x@example.com" || i.Site != "shop?" || i.CaseIDs[0] != "01C" || i.Link != "" || i.Count != 1 || i.Severity != alert.Critical {
		t.Errorf("the item is %+v", i)
	}
	if !strings.HasPrefix(i.Title, "Path /?[2J  Subject: forged?é") || utf8.RuneCountInString(i.Title) != 200 || !strings.HasSuffix(i.Title, "é…") {
		t.Errorf("the title is %q", i.Title)
	}
	if !strings.HasPrefix(i.Text, "one\ntwo \nthree?é") || utf8.RuneCountInString(i.Text) != 2000 {
		t.Errorf("the text is %q", i.Text)
	}
	if len(i.Numbers) != 1 || i.Numbers[0] != (alert.Total{Name: "good", Unit: "b b", Sum: 1, Max: 1}) {
		t.Errorf("the numbers are %+v", i.Numbers)
	}
	if _, err := json.Marshal(m); err != nil {
		t.Error(err)
	}
}

func TestAnEmptyAlertStillSaysSomething(t *testing.T) {
	m := sent(t, alert.Alert{})
	if m.Title != "unnamed" || m.Subject() != "info: unnamed" || m.Items[0].First.IsZero() {
		t.Errorf("got %+v", m)
	}
}

func TestLinksMustBeWorthAClick(t *testing.T) {
	for link, good := range map[string]bool{
		"https://admin.example/cases/1?x=%20":    true,
		"http://127.0.0.1:5002/":                 true,
		"//admin.example/":                       false,
		"ftp://admin.example/":                   false,
		"https://admin.example/ x":               false,
		"https://admin.example/\"onclick=":       false,
		"https://admin.example/\n":               false,
		"https://x/" + strings.Repeat("a", 2000): false,
	} {
		if got := sent(t, alert.Alert{Link: link}).Items[0].Link; (got != "") != good || good && got != link {
			t.Errorf("%.40q becomes %q", link, got)
		}
	}
}

func TestMessagesReadWell(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "mail"}
		d := build(t, options(b))
		d.Raise(alert.Alert{Kind: "client", Severity: alert.Warning, Site: "wiki", Title: "One client takes too much", At: at, Link: "https://admin.example/1"})
		for i, title := range []string{"A campaign of 40 addresses", "A campaign of 1,200 addresses"} {
			d.Raise(alert.Alert{
				Kind: "campaign", Severity: alert.Warning + alert.Severity(i), Site: "shop", Title: title, Text: "They read product pages.\nNone fetches images.", CaseID: []string{"01A", "01B"}[i],
				Numbers: []alert.Number{{Name: "requests", Value: 52_000 * float64(i+1)}, {Name: "traffic", Value: 1_500_000.25, Unit: "bytes"}, {Name: "score", Value: 0.875, Level: true}, {Name: "change", Value: -1234}},
				At:      at.Add(time.Duration(i) * time.Minute), Count: 2,
			})
		}
		run(t, d)()
		m := b.messages()[0]
		if got, want := m.Subject(), "critical: 5 alerts before the stop: A campaign of 1,200 addresses"; got != want {
			t.Errorf("the subject is %q, want %q", got, want)
		}
		want := `critical: campaign, shop
A campaign of 1,200 addresses
They read product pages.
None fetches images.
  requests: 156,000 in all, 104,000 at most
  traffic: 3,000,000.5 bytes in all, 1,500,000.25 bytes at most
  score: 0.875
  change: -2,468 in all, -1,234 at most
campaign, shop: 4 alerts from 2026-03-04 05:06:07 UTC to 2026-03-04 05:07:07 UTC
Among them:
  A campaign of 40 addresses
Cases: 01A, 01B

warning: client, wiki
One client takes too much
client, wiki: 2026-03-04 05:06:07 UTC
https://admin.example/1`
		if got := m.PlainText(); got != want {
			t.Errorf("the text is\n%s\nwant\n%s", got, want)
		}
	})
}

func TestALongDigestLeavesOutTheLeastImportant(t *testing.T) {
	b := &box{name: "mail"}
	o := options(b)
	o.Rules = []alert.Rule{{}}
	d := build(t, o)
	for i := range 200 {
		a := alert.Alert{Kind: "client", Severity: alert.Info, Site: "site" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Title: "x"}
		if i == 150 {
			a.Severity = alert.Critical
		}
		d.Raise(a)
	}
	run(t, d)()
	m := b.messages()[0]
	if len(m.Items) != 20 || m.Omitted != 129-20 || m.Count != 200 || m.Items[0].Severity != alert.Critical || m.Site != "" {
		t.Errorf("items=%d omitted=%d count=%d first=%+v", len(m.Items), m.Omitted, m.Count, m.Items[0])
	}
	if !strings.HasSuffix(m.PlainText(), "\n\nLeft out: 109 more kinds or sites.") {
		t.Errorf("the text does not say what is left out: %q", m.PlainText())
	}
}

func TestSeveritiesAndTimesOfDayAreWords(t *testing.T) {
	for _, s := range []alert.Severity{alert.Info, alert.Warning, alert.Critical} {
		var back alert.Severity
		text, err := s.MarshalText()
		if err == nil {
			err = back.UnmarshalText(text)
		}
		if err != nil || back != s {
			t.Errorf("%v becomes %v: %v", s, back, err)
		}
	}
	if _, err := alert.ParseSeverity("Loud"); err == nil || !strings.Contains(err.Error(), "info, warning, critical") {
		t.Errorf("the error is %v", err)
	}
	if _, err := alert.Severity(9).MarshalText(); err == nil {
		t.Error("a severity that there is not has a text")
	}
	for text, want := range map[string]alert.Clock{"00:00": 0, "07:30": 450, "23:59": 1439} {
		got, err := alert.ParseClock(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %d (%s), %v", text, got, got, err)
		}
	}
	for _, text := range []string{"", "24:00", "7:30", "07:60", "07:30:00", "-1:00", "07.30", "ab:cd", "+7:30"} {
		if c, err := alert.ParseClock(text); err == nil {
			t.Errorf("%q is taken as %s", text, c)
		}
	}
}

func FuzzAlertTextsArePlain(f *testing.F) {
	f.Add("a\r\nb\x1b[2J\u202e", 3)
	f.Add("\xff\xfe=?utf-8?q?=0a?=", 1)
	f.Fuzz(func(t *testing.T, s string, n int) {
		m := sent(t, alert.Alert{Kind: s, Site: s, Title: s, Text: s, CaseID: s, Link: s, Count: n, Numbers: []alert.Number{{Name: s, Unit: s, Value: float64(n)}}})
		i := m.Items[0]
		for _, c := range []struct {
			text  string
			limit int
		}{
			{i.Kind, 64}, {i.Site, 253}, {i.Title, 200}, {strings.ReplaceAll(i.Text, "\n", ""), 2000}, {i.Link, 2000}, {i.Numbers[0].Name, 64},
			{m.Subject(), 264}, {strings.ReplaceAll(m.PlainText(), "\n", ""), 10_000},
		} {
			if k := strings.IndexFunc(c.text, plain.Unsafe); k >= 0 || utf8.RuneCountInString(c.text) > c.limit {
				t.Errorf("%q becomes %q", s, c.text)
			}
		}
		if i.Count < 1 {
			t.Errorf("count is %d", i.Count)
		}
	})
}
