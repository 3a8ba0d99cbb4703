package run

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/demo"
	"github.com/quickthorn/quickthorn/internal/prose"
	"github.com/quickthorn/quickthorn/internal/tarpit"
)

const (
	firefox   = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"
	convict   = "203.0.113.66"
	bystander = "198.51.100.8"
)

// gazette is the sample site, with a log-in.
func gazette(t *testing.T) http.Handler {
	t.Helper()
	site, err := demo.Handler("")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", site)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "of-a-reader-0123456789", Path: "/", HttpOnly: true})
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	return mux
}

// startTarpit runs the program in front of the sample site, with somebody convicted.
func startTarpit(t *testing.T, dir string, sets ...string) *started {
	t.Helper()
	s := startSite(t, dir, gazette(t), append([]string{"policy.mode=enforce", "edge.trustedProxies=127.0.0.1/32", "tarpit.minDelay=0s", "tarpit.maxDelay=0s", "tarpit.text=shuffled-facts"}, sets...)...)
	if _, found := s.api(t, "GET", "/v1/decisions?value="+convict, ""); !strings.Contains(found, convict) {
		if code, out := s.api(t, "POST", "/v1/decisions", `{"value":"`+convict+`","action":"tarpit","origin":"operator"}`); code >= 300 {
			t.Fatalf("%d %s", code, out)
		}
	}
	return s
}

// as sends a request as a browser at the client's address would.
func (s *started) as(t *testing.T, client, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+s.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"X-Forwarded-For": client, "User-Agent": firefox, "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Accept-Language": "en", "Accept-Encoding": "identity",
		"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none", "Upgrade-Insecure-Requests": "1",
	} {
		r.Header.Set(name, value)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	r.Close = true
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// inMaze reports whether an answer is a page of the maze.
func inMaze(res *http.Response, body string) bool {
	return res.StatusCode == 200 && strings.HasPrefix(res.Header.Get("X-Robots-Tag"), "noindex, nofollow") && strings.Contains(body, `content="noindex, nofollow"`)
}

func eventually(t *testing.T, ok func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// events waits for an event that fits.
func (s *started) event(t *testing.T, query string, fits func(e *defense.Event) bool) *defense.Event {
	t.Helper()
	var found *defense.Event
	eventually(t, func() error {
		_, out := s.api(t, "GET", "/v1/events?"+query, "")
		var page struct{ Events []*defense.Event }
		if err := json.Unmarshal([]byte(out), &page); err != nil {
			return err
		}
		for _, e := range page.Events {
			if fits(e) {
				found = e
				return nil
			}
		}
		return fmt.Errorf("no such event: %s", out)
	})
	return found
}

func TestWhoIsConvictedIsInTheMazeAndNobodyElse(t *testing.T) {
	dir := t.TempDir()
	s := startTarpit(t, dir)
	res, first := s.as(t, convict, "GET", "/articles/unheard-of")
	if !inMaze(res, first) || !strings.Contains(first, `href="/.quickthorn/way-out?to=/articles/unheard-of"`) {
		t.Fatalf("%s %v\n%s", res.Status, res.Header, first)
	}
	if res, body := s.as(t, bystander, "GET", "/"); res.StatusCode != 200 || inMaze(res, body) || !strings.Contains(body, "Hedge Gazette") {
		t.Errorf("a reader: %s %s", res.Status, body)
	}
	e := s.event(t, "event=tarpit&client="+convict, func(e *defense.Event) bool { return e.Request.Path == "/articles/unheard-of" })
	if e.Verdict.Action != defense.Tarpit || e.Tarpit == nil || e.Tarpit.Bytes != int64(len(first)) {
		t.Errorf("event %+v, %+v", e, e.Tarpit)
	}
	// What the site asks of robots is never made up.
	_, ours := s.as(t, bystander, "GET", "/robots.txt")
	if res, body := s.as(t, convict, "GET", "/robots.txt"); res.StatusCode != 200 || body != ours || res.Header.Get("X-Robots-Tag") != "" {
		t.Errorf("robots.txt for who is convicted: %s\n%s", res.Status, body)
	}

	var report tarpit.Report
	_, out := s.api(t, "GET", "/v1/tarpit", "")
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Clients) != 1 || report.Clients[0].Client != convict || report.Them.Pages == 0 {
		t.Errorf("%s, %v", out, err)
	}

	// Off is at once and for good; on is the very same maze.
	if code, out := s.api(t, "PUT", "/v1/tarpit", `{"on":false}`); code != 200 {
		t.Fatal(code, out)
	}
	if res, body := s.as(t, convict, "GET", "/articles/unheard-of"); res.StatusCode != 403 {
		t.Errorf("off: %s %s", res.Status, body)
	}
	s.stop()
	s = startTarpit(t, dir)
	if res, _ := s.as(t, convict, "GET", "/articles/unheard-of"); res.StatusCode != 403 {
		t.Errorf("off before the restart: %s", res.Status)
	}
	if code, out := s.api(t, "PUT", "/v1/tarpit", `{"on":true}`); code != 200 {
		t.Fatal(code, out)
	}
	if res, body := s.as(t, convict, "GET", "/articles/unheard-of"); !inMaze(res, body) || body != first {
		t.Errorf("after the restart the page is another one: %s", res.Status)
	}
	if code, out := s.api(t, "PUT", "/v1/mode", `{"mode":"observe"}`); code != 200 {
		t.Fatal(code, out)
	}
	if res, body := s.as(t, convict, "GET", "/"); inMaze(res, body) || res.StatusCode != 200 {
		t.Errorf("mode observe: %s", res.Status)
	}
}

// A page that never ends has an event all the same, with what it cost.
func TestAStayInAStreamIsAccountedForWhenItEnds(t *testing.T) {
	s := startTarpit(t, t.TempDir(), "tarpit.streams=1", "tarpit.minRate=1024", "tarpit.maxRate=1024")
	_, page := s.as(t, convict, "GET", "/articles/")
	found := false
	for _, m := range regexp.MustCompile(`href="(/[^"?#]*)"`).FindAllStringSubmatch(page, -1) {
		path := m[1]
		if strings.HasPrefix(path, "/.quickthorn/") {
			continue
		}
		r, err := http.NewRequest("GET", "http://"+s.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-For", convict)
		r.Header.Set("User-Agent", firefox)
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if res.ContentLength >= 0 { // an image, a page that ends
			res.Body.Close()
			continue
		}
		b := bufio.NewReader(res.Body)
		for range 20 {
			if _, err := b.ReadByte(); err != nil {
				t.Fatal(err)
			}
		}
		if _, out := s.api(t, "GET", "/v1/tarpit", ""); !strings.Contains(out, `"streams":1`) {
			t.Errorf("while it lasts: %s", out)
		}
		res.Body.Close()
		e := s.event(t, "event=tarpit&path="+path, func(e *defense.Event) bool { return e.Request.Path == path })
		if e.Tarpit == nil || e.Tarpit.Bytes < 20 {
			t.Errorf("%+v", e.Tarpit)
		}
		found = true
		break
	}
	if !found {
		t.Fatalf("no page that never ends is linked:\n%s", page)
	}
}

func TestWhoHasUsedUpTheirPagesIsRefused(t *testing.T) {
	s := startTarpit(t, t.TempDir(), "tarpit.hops=3")
	for i := range 5 {
		res, body := s.as(t, convict, "GET", fmt.Sprint("/articles/", i))
		if in := inMaze(res, body); in != (i < 3) || !in && res.StatusCode != 403 {
			t.Errorf("page %d: %s", i+1, res.Status)
		}
	}
}

// A session that the site gave is good, a cookie that somebody made up is not.
func TestWhoIsLoggedInIsNeverTarpitted(t *testing.T) {
	s := startTarpit(t, t.TempDir())
	res, _ := s.as(t, convict, "POST", "/login")
	if inMaze(res, "") || res.StatusCode == 303 {
		t.Errorf("the convicted logged in: %s", res.Status)
	}
	res, _ = s.as(t, bystander, "POST", "/login", "Content-Type", "application/x-www-form-urlencoded")
	var cookies []string
	for _, c := range res.Cookies() {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	if len(cookies) < 2 {
		t.Fatalf("%s: cookies %v: want the site's and the proof of it", res.Status, cookies)
	}
	if code, out := s.api(t, "POST", "/v1/decisions", `{"value":"`+bystander+`","action":"tarpit","origin":"operator"}`); code >= 300 {
		t.Fatal(code, out)
	}
	if res, body := s.as(t, bystander, "GET", "/articles/x", "Cookie", strings.Join(cookies, "; ")); inMaze(res, body) || !strings.Contains(body, "/.quickthorn/") {
		t.Errorf("logged in: %s\n%s", res.Status, body)
	}
	for _, made := range []string{"session=of-a-reader-0123456789", "session=made-up; " + cookies[len(cookies)-1]} {
		if res, body := s.as(t, bystander, "GET", "/articles/x", "Cookie", made); !inMaze(res, body) {
			t.Errorf("%s: %s", made, res.Status)
		}
	}
}

func TestTrapLinksLeadWhereRobotsAreAskedNotToGo(t *testing.T) {
	s := startTarpit(t, t.TempDir(), "tarpit.links=true", "tarpit.linksExcept=/about")
	_, robots := s.as(t, bystander, "GET", "/robots.txt")
	_, page := s.as(t, bystander, "GET", "/")
	m := regexp.MustCompile(`<a [^>]*href="(/[^"]+)"[^>]*>`).FindAllStringSubmatch(page, -1)
	var trap string
	for _, a := range m {
		if strings.Contains(a[0], "nofollow") && strings.Contains(a[0], "aria-hidden") {
			trap = a[1]
		}
	}
	if trap == "" {
		t.Fatalf("no trap link:\n%s", page)
	}
	forbidden := false
	for line := range strings.Lines(robots) {
		if prefix, ok := strings.CutPrefix(strings.TrimSpace(line), "Disallow: "); ok && prefix != "/" && strings.HasPrefix(trap, prefix) {
			forbidden = true
		}
	}
	if !forbidden {
		t.Errorf("robots.txt does not forbid %s:\n%s", trap, robots)
	}
	for _, without := range []struct {
		path    string
		headers []string
	}{{"/about", nil}, {"/feed.xml", nil}, {"/api/articles", nil}, {"/", []string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}}} {
		if _, body := s.as(t, bystander, "GET", without.path, without.headers...); strings.Contains(body, trap[:strings.Index(trap[1:], "/")+2]) {
			t.Errorf("%v has trap links", without)
		}
	}
	if res, body := s.as(t, bystander, "GET", trap); res.StatusCode != 404 || inMaze(res, body) {
		t.Errorf("who is not convicted finds at the trap: %s", res.Status)
	}
	s.event(t, "event=trap&client="+bystander, func(e *defense.Event) bool { return e.Request.Path == trap && e.Response.Status == 404 })
	if res, body := s.as(t, convict, "GET", trap); !inMaze(res, body) {
		t.Errorf("who is convicted finds at the trap: %s", res.Status)
	}
}

// What is put into the archive is what the maze says and looks like soon after.
func TestTheMazeSaysAndLooksLikeWhatTheArchiveHas(t *testing.T) {
	dir := t.TempDir()
	s := startTarpit(t, dir, "tarpit.text=nonsense")
	model, err := prose.Train(t.Context(), []prose.Text{{Name: "wrens", Reader: strings.NewReader(strings.Repeat("Wrenlike zebrafinches quietly hum. They quietly sleep in hedges, and they hum. ", 9))}}, prose.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if code, out := s.api(t, "PUT", "/v1/artifacts/corpus/default", string(model)); code != 200 {
		t.Fatal(code, out)
	}
	says := func(words string) func() error {
		return func() error {
			if res, body := s.as(t, convict, "GET", "/articles/unheard-of"); !inMaze(res, body) || !strings.Contains(body, words) {
				return fmt.Errorf("%s, without %q: %.200s", res.Status, words, body)
			}
			return nil
		}
	}
	eventually(t, says("zebrafinches"))

	like, err := s.Visit(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(like)
	if err != nil {
		t.Fatal(err)
	}
	if code, out := s.api(t, "PUT", "/v1/artifacts/"+artifact.Likeness+"/default", string(b)); code != 200 {
		t.Fatal(code, out)
	}
	eventually(t, says("Hedge Gazette"))
	if code, out := s.api(t, "PUT", "/v1/artifacts/corpus/default", "no model"); code != 422 {
		t.Error(code, out)
	}
	s.stop()
	s = startTarpit(t, dir, "tarpit.text=nonsense")
	eventually(t, says("zebrafinches"))
	eventually(t, says("Hedge Gazette"))
}

// Texts that the configuration names become a model by themselves.
func TestTextsOfTheConfigurationAreTrainedOn(t *testing.T) {
	s := startTarpit(t, t.TempDir(), "tarpit.texts=testdata/texts/*.txt", "tarpit.textsLanguage=en", "tarpit.text=nonsense")
	eventually(t, func() error {
		if _, body := s.as(t, convict, "GET", "/articles/unheard-of"); !strings.Contains(body, "goldcrests") {
			return fmt.Errorf("the maze does not speak of goldcrests: %.200s", body)
		}
		return nil
	})
}
