package alert_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/alert"
)

const secret = "0123456789abcdef-signing"

func message() *alert.Message {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return &alert.Message{
		Schema: 1, ID: "01J00000000000000000000000", Reason: alert.ReasonAlert, Severity: alert.Warning, Kind: "campaign", Site: "shop",
		Title: "A campaign <!channel> & co @all", Count: 1, At: at,
		Items: []alert.Item{{Kind: "campaign", Site: "shop", Severity: alert.Warning, Title: "A campaign <!channel> & co @all", Text: "![x](https://evil.example/)", Count: 1, First: at, Last: at}},
	}
}

// serve answers each request with h and returns the server's URL.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func webhook(t *testing.T, url string) *alert.Webhook {
	t.Helper()
	w, err := alert.NewWebhook(alert.WebhookOptions{Name: "hook", URL: url, Secret: []byte(secret), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWebhooksAreSignedJSON(t *testing.T) {
	var got atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if err := alert.Verify([]byte(secret), r.Header.Get("Quickthorn-Signature"), body, time.Now(), time.Minute); err != nil {
			t.Error(err)
		}
		var m alert.Message
		if err := json.Unmarshal(body, &m); err != nil {
			t.Error(err)
		}
		if m.Title != message().Title || r.Header.Get("Idempotency-Key") != m.ID || r.Header.Get("Content-Type") != "application/json" || r.Method != "POST" || r.URL.Path != "/in" {
			t.Errorf("got %s %s %v: %s", r.Method, r.URL, r.Header, body)
		}
		got.Add(1)
		w.WriteHeader(http.StatusAccepted)
	})
	if err := webhook(t, url+"/in").Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	if got.Load() != 1 {
		t.Errorf("%d requests", got.Load())
	}
}

func TestAnswersSayWhetherToTryAgain(t *testing.T) {
	for _, c := range []struct {
		status    int
		after     string
		permanent bool
		wait      time.Duration
	}{
		{status: 301, permanent: true}, {status: 400, permanent: true}, {status: 403, permanent: true}, {status: 404, permanent: true}, {status: 410, permanent: true},
		{status: 408}, {status: 500}, {status: 502},
		{status: 429}, {status: 429, after: "17", wait: 17 * time.Second}, {status: 503, after: " 3 ", wait: 3 * time.Second},
		{status: 429, after: "soon"}, {status: 429, after: "-5"}, {status: 429, after: "999999999", wait: 24 * time.Hour},
		{status: 429, after: "99999999999999999999"}, {status: 503, after: "Sun, 06 Nov 1994 08:49:37 GMT"}, {status: 500, after: "17"},
	} {
		requests := 0
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			requests++
			w.Header().Set("Retry-After", c.after)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(c.status)
		})
		err := webhook(t, url+"/in").Send(t.Context(), message())
		var e *alert.SendError
		if !errors.As(err, &e) {
			t.Fatalf("%d: the error is %v", c.status, err)
		}
		if e.Permanent != c.permanent || e.After != c.wait || requests != 1 || !strings.Contains(err.Error(), fmt.Sprint("answers ", c.status)) {
			t.Errorf("%d, Retry-After %q: permanent=%v after=%s requests=%d: %v", c.status, c.after, e.Permanent, e.After, requests, err)
		}
	}
}

func TestAddressesAndSecretsAreNotTold(t *testing.T) {
	const token = "T000/B000/verysecrettoken"
	echo := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "no hook at %s; \x1b[2J you sent %s", r.URL, r.Header.Get("Quickthorn-Signature"))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	nonsense, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nonsense.Close() })
	go func() {
		for {
			c, err := nonsense.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096)) // so that it is an answer
			fmt.Fprintf(c, "/services/%s is what you want\r\n\r\n", token)
			c.Close()
		}
	}()
	for _, base := range []string{serve(t, echo), "http://" + closed, "http://" + nonsense.Addr().String(), "https://" + nonsense.Addr().String(), "http://user:verysecrettoken@" + closed} {
		s, err := alert.NewSlack(alert.SlackOptions{Name: "slack", URL: base + "/services/" + token + "?key=verysecrettoken", Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Send(t.Context(), message())
		if err == nil || strings.Contains(err.Error(), "verysecrettoken") || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: the error is %q", base, err)
		}
		if err != nil && !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("the error does not name the host: %v", err)
		}
	}
	for _, url := range []string{"hooks.example/" + token, "ftp://hooks.example/" + token, "https:///" + token, "http://hooks.example/" + token, "http://%zz/" + token, "https:" + token} {
		_, err := alert.NewSlack(alert.SlackOptions{Name: "slack", URL: url, Now: time.Now})
		if err == nil || strings.Contains(err.Error(), "verysecrettoken") {
			t.Errorf("%s: the error is %v", url, err)
		}
	}
	if _, err := alert.NewWebhook(alert.WebhookOptions{Name: "hook", URL: "https://hook.example/", Secret: []byte("short"), Now: time.Now}); err == nil || strings.Contains(err.Error(), "short\"") {
		t.Errorf("the error is %v", err)
	}
}

func TestAnAnswerWithoutEndIsNotRead(t *testing.T) {
	for _, status := range []int{200, 500} {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		})
		if err := webhook(t, url).Send(t.Context(), message()); (err == nil) != (status == 200) {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestARequestEndsWithItsContext(t *testing.T) {
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the server notices when the client goes
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := webhook(t, url).Send(ctx, message()); !strings.Contains(fmt.Sprint(err), "deadline exceeded") {
		t.Errorf("the error is %v", err)
	}
}

func TestSlackMessagesCannotBeMarkedUpByStrangers(t *testing.T) {
	var body []byte
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { body, _ = io.ReadAll(r.Body) })
	s, err := alert.NewSlack(alert.SlackOptions{Name: "slack", URL: url + "/services/x", Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Text   string
		Unfurl *bool `json:"unfurl_links"`
		Blocks []struct {
			Type string
			Text struct{ Type, Text string }
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if want := "warning: shop: A campaign &lt;!channel&gt; &amp; co @\u200ball\nA campaign &lt;!channel&gt; &amp; co @\u200ball\n![x]\u200b(https://evil.example/)\ncampaign, shop: 2026-03-04 05:06:07 UTC"; got.Text != want {
		t.Errorf("the text is %q, want %q", got.Text, want)
	}
	if got.Unfurl == nil || *got.Unfurl {
		t.Error("Slack is not told to leave addresses alone")
	}
	if len(got.Blocks) != 2 || got.Blocks[0].Type != "header" || got.Blocks[0].Text.Type != "plain_text" || got.Blocks[1].Type != "section" || got.Blocks[1].Text.Type != "plain_text" {
		t.Fatalf("the blocks are %+v", got.Blocks)
	}
	if want := "warning: shop: A campaign &lt;!channel&gt; &amp; co @all"; got.Blocks[0].Text.Text != want {
		t.Errorf("the header is %q", got.Blocks[0].Text.Text)
	}

	m := message()
	m.Title, m.Items[0].Text = strings.Repeat("<", 200), strings.Repeat("😀<", 3000)
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	for i, limit := range []int{150, 3000} {
		text := got.Blocks[i].Text.Text
		if n := len(strings.Split(text, "")); n > limit || !strings.HasSuffix(text, ";…") && !strings.HasSuffix(text, "😀…") {
			t.Errorf("block %d has %d characters and ends in %q", i, n, text[len(text)-10:])
		}
	}
}

func TestSignaturesHoldForOneBodyOneSecretAndOneTime(t *testing.T) {
	now := time.Unix(1_772_600_000, 0)
	body := []byte(`{"id":"1"}`)
	good := alert.Sign([]byte(secret), body, now)
	// Made with: printf '%s' '1772600000.{"id":"1"}' | openssl dgst -sha256 -hmac 0123456789abcdef-signing
	if want := "t=1772600000,v1=2b41afb3bdf481cfb826cacf16621f3b885c4086d47548ac4625954c7e929518"; good != want {
		t.Errorf("the signature is %s, want %s", good, want)
	}
	other := alert.Sign([]byte("another secret of some length"), body, now)
	for _, c := range []struct {
		say    string
		header string
		secret string
		body   string
		at     time.Time
		holds  bool
	}{
		{"as it was sent", good, secret, string(body), now, true},
		{"a little later", good, secret, string(body), now.Add(5 * time.Minute), true},
		{"by a clock that is slow", good, secret, string(body), now.Add(-5 * time.Minute), true},
		{"one of several", other + "," + strings.SplitN(good, ",", 2)[1], secret, string(body), now, true},
		{"with spaces", strings.ReplaceAll(good, ",", ", "), secret, string(body), now, true},
		{"too late", good, secret, string(body), now.Add(5*time.Minute + time.Second), false},
		{"too early", good, secret, string(body), now.Add(-5*time.Minute - time.Second), false},
		{"by another secret", other, secret, string(body), now, false},
		{"for another body", good, secret, string(body) + " ", now, false},
		{"with another time", strings.Replace(good, "1772600000", "1772600001", 1), secret, string(body), now, false},
		{"with two times", "t=1," + good, secret, string(body), now, false},
		{"cut short", good[:len(good)-2], secret, string(body), now, false},
		{"without a signature", "t=1772600000", secret, string(body), now, false},
		{"without a time", strings.SplitN(good, ",", 2)[1], secret, string(body), now, false},
		{"of another version", strings.Replace(good, "v1", "v0", 1), secret, string(body), now, false},
		{"missing", "", secret, string(body), now, false},
		{"too long", good + strings.Repeat(",v1=00", 100), secret, string(body), now, false},
		{"by no secret", alert.Sign(nil, body, now), "", string(body), now, false},
	} {
		err := alert.Verify([]byte(c.secret), c.header, []byte(c.body), c.at, 5*time.Minute)
		if (err == nil) != c.holds || err != nil && !errors.Is(err, alert.ErrSignature) {
			t.Errorf("%s: %v", c.say, err)
		}
	}
}

func FuzzVerifyTakesNoForgery(f *testing.F) {
	now := time.Unix(1_772_600_000, 0)
	f.Add("t=1772600000,v1=00", []byte("{}"))
	f.Add("t=-1,v1=,v1=zz,t", []byte(""))
	f.Add(alert.Sign([]byte(secret), []byte("{}"), now), []byte("{}"))
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		err := alert.Verify([]byte(secret), header, body, now, 1<<40)
		if err == nil && !strings.Contains(strings.ToLower(header), strings.SplitN(alert.Sign([]byte(secret), body, timeOf(header)), "v1=", 2)[1]) {
			t.Errorf("%q holds for %q", header, body)
		}
	})
}

// timeOf is the time in a signature header that holds.
func timeOf(header string) time.Time {
	var seconds int64
	for part := range strings.SplitSeq(header, ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(part), "t="); ok {
			fmt.Sscan(value, &seconds)
		}
	}
	return time.Unix(seconds, 0)
}
