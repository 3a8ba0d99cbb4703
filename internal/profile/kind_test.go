package profile

import (
	"net/http"
	"testing"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestKindFromALogLine(t *testing.T) {
	const (
		browser = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
		reader  = "Mozilla/5.0 (compatible; Miniflux/2.2.6; +https://miniflux.app)"
		git     = "git/2.45.2"
		curl    = "curl/8.9.1"
		preview = "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"
	)
	tests := []struct {
		method, target, agent string
		want                  defense.Kind
	}{
		// Pages.
		{"GET", "/", browser, defense.KindNavigation},
		{"GET", "/about", browser, defense.KindNavigation},
		{"HEAD", "/about.html", browser, defense.KindNavigation},
		{"GET", "/index.php?title=A", browser, defense.KindNavigation},
		{"GET", "/about", curl, defense.KindNavigation},
		{"GET", "/user/john.smith", browser, defense.KindNavigation},
		{"GET", "/release/v1.2-notes", browser, defense.KindNavigation},
		{"POST", "/login", browser, defense.KindNavigation},
		{"POST", "/hook", curl, defense.KindAPI},
		// Pages about files.
		{"GET", "/wiki/File:Map.png", browser, defense.KindNavigation},
		{"GET", "/me/project/src/branch/main/web/site.css", browser, defense.KindNavigation},
		{"GET", "/me/project/blob/main/app.js", browser, defense.KindNavigation},
		{"GET", "/me/project/-/blame/main/app.js", browser, defense.KindNavigation},
		{"GET", "/me/project/-/raw/main/logo.png", browser, defense.KindAsset},
		{"GET", "/me/project/raw/branch/main/logo.png", browser, defense.KindAsset},
		{"GET", "/blob/logo.png", browser, defense.KindAsset},
		// Files.
		{"GET", "/static/app.js", browser, defense.KindAsset},
		{"GET", "/a/b.PNG", browser, defense.KindAsset},
		{"GET", "/video/talk.webm", browser, defense.KindMedia},
		{"GET", "/paper.pdf", browser, defense.KindMedia},
		{"GET", "/data.json", browser, defense.KindAPI},
		{"GET", "/.env", curl, defense.KindNavigation},
		{"GET", "/app.log", curl, defense.KindOther},
		// Names that only end like a file.
		{"GET", "/viewtopic.php/x.css?t=5", browser, defense.KindOther},
		{"GET", "/viewtopic.php/sitemap.xml?t=5", browser, defense.KindOther},
		{"GET", "/page;x.css", browser, defense.KindNavigation},
		{"GET", "/page%00.css", browser, defense.KindOther},
		{"GET", "/page#.css", browser, defense.KindNavigation},
		{"GET", "/t/5/..%2f..%2fx.css", browser, defense.KindOther},
		// What crawlers must be able to read.
		{"GET", "/robots.txt", curl, defense.KindRobots},
		{"GET", "//robots.txt", curl, defense.KindRobots},
		{"GET", "/sitemap.xml", curl, defense.KindRobots},
		{"GET", "/sitemap_index.xml", curl, defense.KindRobots},
		{"GET", "/maps/sitemap-posts-1.xml.gz", curl, defense.KindRobots},
		{"GET", "/wp-sitemap-posts-post-1.xml", curl, defense.KindRobots},
		{"GET", "/llms.txt", curl, defense.KindRobots},
		{"GET", "/favicon.ico", browser, defense.KindWellKnown},
		{"GET", "/favicon-32x32.png", browser, defense.KindWellKnown},
		{"GET", "/apple-touch-icon-120x120-precomposed.png", browser, defense.KindWellKnown},
		{"GET", "/.well-known/security.txt", curl, defense.KindWellKnown},
		// And what only looks so.
		{"GET", "/wiki/robots.txt", curl, defense.KindNavigation},
		{"GET", "/robots.txt/secret", curl, defense.KindNavigation},
		{"GET", "/q/123/..%2f..%2f..%2frobots.txt", curl, defense.KindNavigation},
		{"GET", "/q/123/..\\..\\..\\robots.txt", curl, defense.KindNavigation},
		{"GET", "/q/123/../../robots.txt", curl, defense.KindNavigation},
		{"GET", "/.well-known/../page", curl, defense.KindNavigation},
		{"GET", "/favicon-of-the-year", browser, defense.KindNavigation},
		{"POST", "/robots.txt", curl, defense.KindAPI},
		// Feeds.
		{"GET", "/feed/", browser, defense.KindFeed},
		{"GET", "/feed", reader, defense.KindFeed},
		{"GET", "/comments/feed/", reader, defense.KindFeed},
		{"GET", "/blog/atom.xml", browser, defense.KindFeed},
		{"GET", "/index.xml", browser, defense.KindFeed},
		{"GET", "/me/project.rss", browser, defense.KindFeed},
		{"GET", "/me/project/releases.atom", browser, defense.KindFeed},
		{"GET", "/feeds/posts/default", browser, defense.KindFeed},
		{"GET", "/?feed=rss2", reader, defense.KindFeed},
		{"GET", "/blog/tags/puppet?flav=rss20", browser, defense.KindFeed},
		{"GET", "/a-post-of-mine", reader, defense.KindFeed},
		{"GET", "/feedback", browser, defense.KindNavigation},
		{"GET", "/?feed=rss2x", browser, defense.KindNavigation},
		{"GET", "/?myfeed=rss2", browser, defense.KindNavigation},
		// git.
		{"GET", "/me/project.git/info/refs?service=git-upload-pack", git, defense.KindGit},
		{"GET", "/me/project/info/refs?service=git-receive-pack", git, defense.KindGit},
		{"GET", "/cgi-bin/git-http-backend.cgi/project.git/info/refs?service=git-upload-pack", git, defense.KindGit},
		{"POST", "/me/project.git/git-upload-pack", git, defense.KindGit},
		{"POST", "/me/project.git/git-receive-pack", git, defense.KindGit},
		{"GET", "/project.git/info/refs", git, defense.KindGit},
		{"GET", "/project.git/HEAD", git, defense.KindGit},
		{"GET", "/project.git/objects/info/packs", git, defense.KindGit},
		{"GET", "/project.git/objects/4b/825dc642cb6eb9a060e54bf8d69288fbee4904", git, defense.KindGit},
		{"GET", "/project.git/objects/pack/pack-4b825dc642cb6eb9a060e54bf8d69288fbee4904.idx", git, defense.KindGit},
		{"POST", "/me/project.git/info/lfs/objects/batch", "git-lfs/3.5.1", defense.KindGit},
		{"PUT", "/me/project.git/info/lfs/objects/abc", "git-lfs/3.5.1", defense.KindGit},
		{"GET", "/.git/HEAD", curl, defense.KindNavigation},
		{"GET", "/.git/info/refs?service=git-upload-pack", curl, defense.KindNavigation},
		{"GET", "/wiki/Git?service=git-upload-pack", browser, defense.KindNavigation},
		{"GET", "/me/project", git, defense.KindOther},
		// Programs' addresses and methods.
		{"GET", "/api/v1/repos", curl, defense.KindAPI},
		{"GET", "/forge/api/v1/repos", curl, defense.KindAPI},
		{"GET", "/api/index.html", browser, defense.KindNavigation},
		{"GET", "/api/style.css", browser, defense.KindAsset},
		{"GET", "/w/api.php?action=query", curl, defense.KindAPI},
		{"POST", "/xmlrpc.php", curl, defense.KindAPI},
		{"GET", "/v2/library/alpine/manifests/latest", "docker/27.0", defense.KindAPI},
		{"GET", "/v2/guide", browser, defense.KindNavigation},
		{"PROPFIND", "/remote.php/dav/files/u/a", "Mozilla/5.0 (Linux) mirall/3.7", defense.KindAPI},
		{"GET", "/remote.php/dav/files/u/photo.jpg", "Mozilla/5.0 (Linux) mirall/3.7", defense.KindAPI},
		{"OPTIONS", "/page", browser, defense.KindAPI},
		{"DELETE", "/page", curl, defense.KindAPI},
		{"BREW", "/pot", curl, defense.KindOther},
		{"", "", "", defense.KindOther},
		{"GET", "/blog/a-post", preview, defense.KindPreview},
		{"GET", "/og-image.png", preview, defense.KindPreview},
	}
	f := newProfiler(t)
	for _, tt := range tests {
		var p defense.Profile
		f.FromLog(&p, LogEntry{Method: tt.method, Target: tt.target, UserAgent: defense.Observed(tt.agent, tt.agent != "")})
		if p.Kind != tt.want {
			t.Errorf("%s %s by %.20s: %s, want %s", tt.method, tt.target, tt.agent, p.Kind, tt.want)
		}
	}
}

func TestHeadersRefineTheKind(t *testing.T) {
	tests := []struct {
		name, method, target string
		header               http.Header
		want                 defense.Kind
	}{
		{"any wish", "GET", "/page", http.Header{"Accept": {"*/*"}}, defense.KindNavigation},
		{"no wish", "GET", "/page", http.Header{}, defense.KindNavigation},
		{"HTML", "GET", "/page", http.Header{"Accept": {"TEXT/HTML"}}, defense.KindNavigation},
		{"axios", "GET", "/page", http.Header{"Accept": {"application/json, text/plain, */*"}}, defense.KindAPI},
		{"federation", "GET", "/@alice/1", http.Header{"Accept": {`application/ld+json; profile="https://www.w3.org/ns/activitystreams"`}}, defense.KindAPI},
		{"events", "GET", "/stream", http.Header{"Accept": {"text/event-stream"}}, defense.KindAPI},
		{"picture", "GET", "/avatar/1", http.Header{"Accept": {"image/avif,image/webp,*/*"}}, defense.KindOther},
		{"fetch", "GET", "/page", http.Header{"Sec-Fetch-Mode": {"cors"}, "Sec-Fetch-Dest": {"empty"}}, defense.KindAPI},
		{"XHR", "GET", "/page", http.Header{"X-Requested-With": {"XMLHttpRequest"}, "Accept": {"text/html, */*"}}, defense.KindAPI},
		{"frame", "GET", "/page", http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"iframe"}}, defense.KindNavigation},
		{"plug-in", "GET", "/page", http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"embed"}}, defense.KindOther},
		{"download link", "GET", "/a.zip", http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"empty"}}, defense.KindMedia},
		{"page called a picture", "GET", "/page", http.Header{"Sec-Fetch-Mode": {"no-cors"}, "Sec-Fetch-Dest": {"image"}}, defense.KindOther},
		{"page called a document without navigation", "GET", "/page", http.Header{"Sec-Fetch-Mode": {"cors"}, "Sec-Fetch-Dest": {"document"}}, defense.KindNavigation},
		{"unknown mode", "GET", "/page", http.Header{"Sec-Fetch-Mode": {"x"}, "Sec-Fetch-Dest": {"image"}}, defense.KindNavigation},
		{"robots whatever the headers", "GET", "/robots.txt", http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}}, defense.KindRobots},
		{"feed whatever the headers", "GET", "/feed/", http.Header{"Accept": {"text/html"}}, defense.KindFeed},
		{"page that a parameter calls a feed", "GET", "/page?format=rss", http.Header{"Accept": {"text/html,*/*"}}, defense.KindNavigation},
		{"parameter asked for by a browser's name", "GET", "/page?format=rss", http.Header{"Accept": {"*/*"}, "User-Agent": {chrome141}}, defense.KindNavigation},
		{"parameter and its type", "GET", "/page?format=rss", http.Header{"Accept": {"application/rss+xml"}, "User-Agent": {chrome141}}, defense.KindFeed},
		{"parameter asked for by a program", "GET", "/page?format=rss", http.Header{"Accept": {"*/*"}}, defense.KindFeed},
		{"parameter asked for by a feed reader", "GET", "/page?format=rss", http.Header{"Accept": {"application/rss+xml, text/html"}, "User-Agent": {"Miniflux/2.2.6"}}, defense.KindFeed},
		{"WebSocket", "GET", "/page", http.Header{"Upgrade": {"websocket"}, "Connection": {"keep-alive, Upgrade"}}, defense.KindUpgrade},
		{"Upgrade not in Connection", "GET", "/page", http.Header{"Upgrade": {"websocket"}, "Connection": {"keep-alive"}}, defense.KindNavigation},
		{"offer of h2c", "GET", "/page", http.Header{"Upgrade": {"h2c"}, "Connection": {"Upgrade, HTTP2-Settings"}}, defense.KindNavigation},
		{"form", "POST", "/page", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"text/html,*/*"}}, defense.KindNavigation},
		{"upload form", "POST", "/page", http.Header{"Content-Type": {"multipart/form-data; boundary=x"}, "Accept": {"text/html"}}, defense.KindNavigation},
		{"form by fetch", "POST", "/page", http.Header{"Content-Type": {"multipart/form-data; boundary=x"}, "Accept": {"text/html"}, "Sec-Fetch-Mode": {"cors"}}, defense.KindAPI},
		{"JSON", "POST", "/page", http.Header{"Content-Type": {"application/json"}, "Accept": {"text/html"}}, defense.KindAPI},
		{"script's form", "POST", "/page", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"*/*"}}, defense.KindAPI},
	}
	f := newProfiler(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{Method: tt.method, RequestURI: tt.target, Header: tt.header, RemoteAddr: "203.0.113.7:1", Proto: "HTTP/1.1"}
			var p defense.Profile
			f.FromRequest(&p, r, defense.NewClient(testClient), testTime)
			if p.Kind != tt.want {
				t.Errorf("%s, want %s", p.Kind, tt.want)
			}
		})
	}
}
