package profile

import (
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// kindOfPath says what an address is for, judged by its path and query alone.
// KindNavigation means "looks like a page", KindOther "cannot tell".
//
// Anything but a page needs a path that every server reads alike ([isPlain]),
// and no script among the segments before the last: "/viewtopic.php/a.css?t=5"
// is the topic, whatever it ends with.
func kindOfPath(raw, path, query string) defense.Kind {
	name, ext := lastSegment(path)
	if path != raw && !isPlain(raw) {
		return pageOr(ext, defense.KindOther)
	}
	if k, ok := rootFile(path, name, ext); ok {
		return k
	}
	if isGitPath(path, query) {
		return defense.KindGit
	}
	if isAPIPath(path, name) {
		return defense.KindAPI
	}
	if hasScriptSegment(path) {
		return pageOr(ext, defense.KindOther)
	}
	if strings.HasPrefix(name, "sitemap") || strings.HasPrefix(name, "wp-sitemap") {
		switch ext {
		case "xml", "txt", "xsl":
			return defense.KindRobots
		case "gz":
			if strings.HasSuffix(name, ".xml.gz") || strings.HasSuffix(name, ".txt.gz") {
				return defense.KindRobots
			}
		}
	}
	if isFeedPath(path, name, ext) || isFeedQuery(query) {
		return defense.KindFeed
	}
	k := kindOfExtension(ext)
	if k != defense.KindNavigation && isViewer(path, name) {
		return defense.KindNavigation
	}
	return k
}

func pageOr(ext string, other defense.Kind) defense.Kind {
	if kindOfExtension(ext) == defense.KindNavigation {
		return defense.KindNavigation
	}
	return other
}

// lastSegment returns the path's last segment without path parameters, and its
// extension in lower case without dot. A name that only looks as if it had
// one ("v1.2-notes", "St._Mary", ".env") has the extension "".
func lastSegment(path string) (name, ext string) {
	name = path[strings.LastIndexByte(path, '/')+1:]
	name, _, _ = strings.Cut(name, ";")
	dot := strings.LastIndexByte(name, '.')
	if dot < 1 || len(name)-dot-1 > 11 {
		return name, ""
	}
	ext = name[dot+1:]
	for i := range len(ext) {
		if c := ext[i] | 0x20; (c < 'a' || c > 'z') && (ext[i] < '0' || ext[i] > '9') {
			return name, ""
		}
	}
	return name, strings.ToLower(ext)
}

// rootFile recognises the files at the root that tell crawlers how to behave, and
// those that browsers and services fetch of their own accord.
func rootFile(path, name, ext string) (defense.Kind, bool) {
	if strings.HasPrefix(path, "/.well-known/") {
		return defense.KindWellKnown, true
	}
	if len(path) != len(name)+1 {
		return 0, false
	}
	switch name {
	case "robots.txt", "ai.txt", "llms.txt", "ads.txt", "app-ads.txt", "sellers.json":
		return defense.KindRobots, true
	case "security.txt", "humans.txt", "favicon.ico", "browserconfig.xml", "manifest.json", "manifest.webmanifest",
		"site.webmanifest", "opensearch.xml", "crossdomain.xml", "clientaccesspolicy.xml", "apple-app-site-association":
		return defense.KindWellKnown, true
	}
	switch ext {
	case "png", "ico", "svg", "gif":
		for _, prefix := range [...]string{"favicon", "apple-touch-icon", "android-chrome-", "mstile-", "safari-pinned-tab"} {
			if strings.HasPrefix(name, prefix) {
				return defense.KindWellKnown, true
			}
		}
	}
	return 0, false
}

// isGitPath recognises git's smart protocol (gitprotocol-http), the files of the dumb
// one, and Git LFS. A request into a ".git" folder is not git but somebody looking
// for one that was left on the server.
func isGitPath(path, query string) bool {
	if strings.Contains(path, "/.git/") {
		return false
	}
	switch {
	case strings.HasSuffix(path, "/info/refs"):
		return hasParameter(query, "service", "git-upload-pack") || hasParameter(query, "service", "git-receive-pack") ||
			query == "" && strings.HasSuffix(path, ".git/info/refs")
	case strings.HasSuffix(path, "/git-upload-pack"), strings.HasSuffix(path, "/git-receive-pack"), strings.HasSuffix(path, "/git-upload-archive"):
		return query == ""
	case strings.HasSuffix(path, ".git/HEAD"):
		return true
	}
	if i := strings.Index(path, "/info/lfs/"); i >= 0 {
		rest := path[i+len("/info/lfs/"):]
		return strings.HasPrefix(rest, "objects/") || rest == "locks" || strings.HasPrefix(rest, "locks/")
	}
	if i := strings.LastIndex(path, "/objects/"); i >= 0 {
		return isObject(path[i+len("/objects/"):])
	}
	return false
}

// isObject recognises what the dumb protocol fetches below objects/.
func isObject(s string) bool {
	switch s {
	case "info/packs", "info/alternates", "info/http-alternates":
		return true
	}
	if rest, ok := strings.CutPrefix(s, "pack/pack-"); ok {
		hash, ext, _ := strings.Cut(rest, ".")
		return isHash(hash) && (ext == "pack" || ext == "idx")
	}
	return len(s) > 3 && s[2] == '/' && isHash(s[:2]+s[3:])
}

// isHash reports whether s is a SHA-1 or SHA-256 in hexadecimal.
func isHash(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if unhex(s[i]) > 15 {
			return false
		}
	}
	return true
}

// isAPIPath recognises addresses that programs use.
func isAPIPath(path, name string) bool {
	for _, prefix := range [...]string{"/_matrix/", "/_synapse/", "/remote.php/", "/public.php/", "/ocs/", "/dav/", "/nodeinfo/"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	if strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/rest/") {
		// Not the pages and files of an API's documentation, which often lives there too.
		switch kindOfExtension(extOf(name)) {
		case defense.KindAPI:
			return true
		case defense.KindNavigation:
			if !strings.Contains(name, ".") {
				return true
			}
		}
	}
	switch name {
	case "xmlrpc.php", "api.php", "rest.php", "graphql":
		return true
	}
	if strings.Contains(path, "/wp-json/") || path == "/v2/" {
		return true
	}
	if i := strings.Index(path, "/api/v"); i >= 0 && len(path) > i+6 && path[i+6]-'0' < 10 {
		return true
	}
	// The container registry protocol below /v2/.
	return strings.HasPrefix(path, "/v2/") &&
		(strings.Contains(path, "/manifests/") || strings.Contains(path, "/blobs/") || strings.HasSuffix(path, "/tags/list") || path == "/v2/_catalog")
}

func extOf(name string) string {
	_, ext := lastSegment(name)
	return ext
}

// hasScriptSegment reports whether a segment before the last is a script, to which
// the rest of the path is only an argument.
func hasScriptSegment(path string) bool {
	for {
		i := strings.IndexByte(path, '/')
		if i < 0 {
			return false
		}
		if segment := path[:i]; strings.IndexByte(segment, '.') >= 0 && isScript(extOf(segment)) {
			return true
		}
		path = path[i+1:]
	}
}

func isScript(ext string) bool {
	switch ext {
	case "php", "php3", "php4", "php5", "php7", "phtml", "asp", "aspx", "ashx", "jsp", "jspx", "do", "cgi", "fcgi", "pl", "py", "rb", "cfm":
		return true
	}
	return false
}

// isFeedPath recognises the addresses that feeds have by custom: WordPress
// (/feed/, /comments/feed/atom/), Blogger (/feeds/posts/default), static site
// generators (/index.xml, /atom.xml), forges (/repo.rss, /releases.atom).
func isFeedPath(path, name, ext string) bool {
	switch ext {
	case "rss", "atom", "rdf":
		return true
	}
	if name == "" && len(path) > 1 { // trailing slash
		path = path[:len(path)-1]
		name, ext = lastSegment(path)
	}
	if strings.HasPrefix(path, "/feeds/") {
		return ext == "" || ext == "xml" || ext == "json"
	}
	for _, custom := range [...]string{
		"feed", "rss", "atom", "rss2", "feed.xml", "feed.json", "feed.php", "rss.xml", "rss2.xml", "rss.php", "atom.xml", "atom.php",
		"index.xml", "podcast.xml", "feeds.xml",
	} {
		if len(name) == len(custom) && strings.EqualFold(name, custom) {
			return true
		}
	}
	return false
}

// isFeedQuery recognises a query that asks for the feed of a page, as
// WordPress and MediaWiki (feed), GitLab and Trac (format) and Blosxom (flav) do.
func isFeedQuery(query string) bool {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "feed", "format", "flav":
			switch value {
			case "rss", "rss2", "rss20", "atom", "rdf", "comments-rss2", "comments-atom":
				return true
			}
		}
	}
	return false
}

// hasParameter reports whether the raw query holds exactly name=value.
func hasParameter(query, name, value string) bool {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if len(pair) == len(name)+1+len(value) && pair[:len(name)] == name && pair[len(name)] == '=' && pair[len(name)+1:] == value {
			return true
		}
	}
	return false
}

// kindOfExtension returns what a file name's extension says; a page if nothing known.
func kindOfExtension(ext string) defense.Kind {
	switch ext {
	case "css", "js", "mjs", "map", "wasm", "woff", "woff2", "ttf", "otf", "eot",
		"png", "jpg", "jpeg", "jpe", "jfif", "gif", "webp", "avif", "jxl", "svg", "svgz", "ico", "cur", "bmp", "tif", "tiff", "heic",
		"webmanifest", "less", "scss", "swf":
		return defense.KindAsset
	case "mp3", "m4a", "aac", "ogg", "oga", "opus", "flac", "wav", "mid", "mp4", "m4v", "webm", "ogv", "mov", "avi", "mkv", "mpg", "mpeg",
		"ts", "m3u8", "mpd", "m4s", "vtt", "srt",
		"zip", "gz", "tgz", "bz2", "xz", "zst", "lz", "7z", "rar", "tar", "iso", "img", "dmg", "exe", "msi", "deb", "rpm", "apk", "jar", "whl",
		"pdf", "epub", "mobi", "djvu", "ps", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ods", "odp", "csv", "bin", "torrent", "sig", "asc":
		return defense.KindMedia
	case "json", "jsonld", "xml", "geojson", "yaml", "yml", "ics", "vcf", "proto", "wsdl":
		return defense.KindAPI
	case "patch", "diff", "env", "ini", "sql", "bak", "conf", "log":
		return defense.KindOther
	}
	return defense.KindNavigation
}

// isViewer reports whether the address is a page about a file rather than the file:
// a wiki's "File:Name.png" or a forge's view of source code. These are the pages that
// scrapers wear servers down with, so their extension must not make them assets.
func isViewer(path, name string) bool {
	if strings.IndexByte(name, ':') > 0 {
		return true
	}
	for _, part := range [...]string{"/src/branch/", "/src/commit/", "/src/tag/", "/-/", "/blob/", "/blame/", "/tree/", "/commits/", "/commit/"} {
		// At the root it is a folder of that name, not part of a repository's address.
		if i := strings.Index(path, part); i > 0 {
			return !strings.Contains(path[i:], "/raw/")
		}
	}
	return false
}
