package replay

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestCrawlersAreRefusedAndReadersCounted(t *testing.T) {
	r := replayed(t, line(noon, "192.0.2.1", "/a", chrome)+line(noon.Add(time.Minute), "192.0.2.2", "/a", gptbot)+
		line(noon.Add(2*time.Minute), "192.0.2.3", "/r.git/info/refs?service=git-upload-pack", git)+line(noon.Add(3*time.Minute), "192.0.2.4", "/feed.xml", feed)+
		"this is no log line\n")
	if r.Requests != 4 || r.Broken != 1 || r.Verdicts["deny"] != 1 || r.Spared.Requests != 1 || r.Spared.Bytes != 1000 {
		t.Errorf("%d requests, %d broken, %v, spared %+v", r.Requests, r.Broken, r.Verdicts, r.Spared)
	}
	if stopped, all := r.HarmTotal(); stopped != 0 || all != 3 {
		t.Errorf("%d of %d readers stopped", stopped, all)
	}
}

func TestBudgetsRunByTheLogsClock(t *testing.T) {
	fast, slow := "", ""
	for i := range 400 {
		fast += line(noon, "192.0.2.1", "/page", chrome)
		slow += line(noon.Add(time.Duration(i)*time.Second), "192.0.2.1", "/page", chrome)
	}
	if r := replayed(t, fast); r.Verdicts["throttle"] == 0 || len(r.Harm) == 0 || len(r.Harm[0].Examples) == 0 {
		t.Errorf("400 pages in a second: %v, harm %+v", r.Verdicts, r.Harm)
	}
	if r := replayed(t, slow); r.Verdicts["throttle"] != 0 {
		t.Errorf("a page a second: %v", r.Verdicts)
	}
}

func TestComparisonNamesTheClientsThatDiffer(t *testing.T) {
	mine := compiled(t, "name: mine\nrules:\n  - name: no-git\n    when: agent.family == \"git\"\n    action: deny\n    reason: a test\n")
	log := line(noon, "192.0.2.3", "/r.git/info/refs?service=git-upload-pack", git) + line(noon, "192.0.2.1", "/", chrome)
	r := replayed(t, log, against(mine))
	c := r.Comparison
	if c == nil || c.Requests != 2 || c.Changed != 1 || len(c.Clients) != 1 || c.Clients[0].Client != "192.0.2.3" || c.Clients[0].RuleB != "no-git" {
		t.Fatalf("%+v", c)
	}
	if r := replayed(t, log, with(mine)); r.Verdicts["deny"] != 1 || r.Policy != "mine" || r.Comparison != nil {
		t.Errorf("%v by %s", r.Verdicts, r.Policy)
	}
}

func TestPageNeedsNothingElseAndEscapesWhatClientsSent(t *testing.T) {
	log := ""
	for range 400 {
		log += line(noon, "192.0.2.1", "/<script>alert(1)</script>", chrome+" <img src=x>")
	}
	var b bytes.Buffer
	if err := replayed(t, log).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, bad := range []string{"<script", "<img", "http://", "https://", "url("} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	if !strings.Contains(page, "<svg") || !strings.Contains(page, "&lt;script&gt;") {
		t.Error("the page lacks its plot or what the client asked for")
	}
}

func TestObserveReportsWhatEnforceWouldDo(t *testing.T) {
	r := replayed(t, line(noon, "192.0.2.2", "/a", gptbot), func(o *Options) { o.Mode = defense.ModeObserve })
	if r.Verdicts["deny"] != 1 {
		t.Errorf("%v", r.Verdicts)
	}
}
