//go:build clients

package page

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// layoutFaults is run in the page and names what is wrong with its layout.
const layoutFaults = `(() => {
	const faults = []
	const root = document.documentElement
	if (root.scrollWidth > innerWidth) faults.push("scrolls sideways: " + root.scrollWidth + " of " + innerWidth)
	for (const e of document.querySelectorAll("a, button, input:not([type=hidden])")) {
		const r = e.getBoundingClientRect()
		if (e.closest("[hidden]")) { if (r.width > 0) faults.push("the decoy is seen"); continue }
		if (r.width < 24 || r.height < 24) faults.push("small target: " + e.outerHTML + " " + r.width + "x" + r.height)
		if (r.left < 0 || r.right > innerWidth) faults.push("out of view: " + e.outerHTML)
	}
	const main = document.querySelector("main").getBoundingClientRect()
	if (Math.abs(main.left - (root.clientWidth - main.right)) > 1) faults.push("not in the middle: " + main.left + " to " + main.right)
	if (getComputedStyle(document.body).backgroundColor === "rgba(0, 0, 0, 0)") faults.push("no style sheet")
	return faults.join("; ")
})()`

// focusRing is the outline of what has the focus; a page without one gives that of its body.
const focusRing = `(s => s.outlineStyle + " " + s.outlineWidth)(getComputedStyle(document.activeElement))`

// TestLayoutHoldsInABrowser looks at every page as a phone does and as a desktop at 400 % does (320 CSS pixels), under the
// policy default-src 'self'. With QUICKTHORN_SCREENSHOTS set to a folder it leaves pictures there for a person to look at.
func TestLayoutHoldsInABrowser(t *testing.T) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("STRICT_TESTS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	p, c := open(t, "")
	var view View
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		if name, ok := strings.CutPrefix(r.URL.Path, AssetPrefix); ok {
			if a, ok := p.Asset(name); ok {
				w.Header().Set("Content-Type", a.ContentType)
				_, _ = w.Write(a.Body)
				return
			}
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(p.Append(nil, &view))
	}))
	defer server.Close()

	options := append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil { // opens it, which must happen under the context without the deadline
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(ctx, 60*time.Second)
	defer cancel()

	looks := []struct {
		name   string
		width  int64
		media  []*emulation.MediaFeature
		inTags []string
	}{
		{"phone", 320, nil, []string{"en", "ar", "de", "fi", "ja"}},
		{"dark", 900, []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}, []string{"en", "he"}},
		{"forced", 900, []*emulation.MediaFeature{{Name: "forced-colors", Value: "active"}}, []string{"en"}},
		{"light", 900, nil, []string{"en", "fa"}},
	}
	for _, look := range looks {
		for _, tag := range look.inTags {
			for name, v := range examples() {
				view = *v
				view.Language, view.Refresh = c.Match(tag), "" // a refresh would lead away while we look
				look := look
				settle := chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
					_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: look.media})
					return err
				})
				if err := chromedp.Do(ctx, chromedp.EmulateViewport(look.width, 900), settle, chromedp.Navigate(server.URL)); err != nil {
					t.Fatal(err)
				}
				faults, err := chromedp.Run(ctx, chromedp.Evaluate[string](layoutFaults))
				if err != nil {
					t.Fatal(err)
				}
				if faults != "" {
					t.Errorf("%s in %s, %s: %s", name, tag, look.name, faults)
				}
				if err := chromedp.Do(ctx, chromedp.KeyEvent("\t")); err != nil {
					t.Fatal(err)
				}
				if ring, err := chromedp.Run(ctx, chromedp.Evaluate[string](focusRing)); err != nil || ring != "solid 3px" {
					t.Errorf("%s in %s, %s: what the tab key reaches first has the outline %q, %v", name, tag, look.name, ring, err)
				}
				if dir := os.Getenv("QUICKTHORN_SCREENSHOTS"); dir != "" {
					if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`{let r=document.querySelectorAll("input[type=radio]"); if(r[1]){r[1].checked=true;r[2].focus()} let g=document.querySelector("progress"); if(g){g.hidden=false;g.value=40;document.querySelector("#status").textContent=document.querySelector("main").dataset.textWorking}; true}`)); err != nil {
						t.Fatal(err)
					}
					picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(dir, look.name+"."+name+"."+tag+".png"), picture, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}
