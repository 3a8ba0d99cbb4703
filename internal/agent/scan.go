package agent

// scan collects, in one pass over a User-Agent, the words that tell browsers and
// systems apart.
type scan struct {
	// The products by which browsers are built on each other, by major version.
	// present tells a version of 0 from absence.
	chrome, firefox, version, msie, rv, trident, opera int
	presentChrome, presentFirefox, presentVersion      bool
	presentMSIE, presentTrident, presentOpera          bool
	webkit, gecko, goanna, safari, mobileSafari        bool
	webView, app, compatible                           bool

	// brand is the browser's or application's own name, where it writes one.
	brand          string
	brandMajor     int
	brandVersioned bool // a version was given, if only 0.9
	brandRank      brandRank

	os     string
	osRank uint8
	mobile bool

	// pending is a brand whose version may be the next word.
	pending     string
	pendingRank brandRank

	// linked is the last product named before the first address.
	linked, linkedVersion string
	address               bool
}

// brandRank orders the brands that one text holds: an application that shows pages
// in a view of its own beats the browser that the view is made from.
type brandRank uint8

const (
	noBrand brandRank = iota
	brandBrowser
	brandView // a view inside some application
	brandApp
)

// maxWord is the longest word that is compared; all known ones are shorter.
const maxWord = 32

// read scans the text: words are separated by spaces, brackets, semicolons and the
// like, and may have a version behind a slash.
func (s *scan) read(text string) {
	var buf [maxWord]byte
	var previous string // the word before, for "MSIE 7.0" and "Opera 8.5"
	for i := 0; i < len(text); {
		if isSeparator(text[i]) {
			i++
			continue
		}
		start := i
		for i < len(text) && !isSeparator(text[i]) && text[i] != '/' {
			if j := i - start; j < maxWord {
				b := text[i]
				if 'A' <= b && b <= 'Z' {
					b += 'a' - 'A'
				}
				buf[j] = b
			}
			i++
		}
		end := i
		version := ""
		if i < len(text) && text[i] == '/' {
			i++
			from := i
			for i < len(text) && !isSeparator(text[i]) {
				i++
			}
			version = text[from:i]
		}
		if end-start > maxWord || end == start {
			previous = ""
			continue
		}
		word := buf[:end-start]
		if !s.address && (word[len(word)-1] == ':' && (len(word) >= 5) && hasHTTP(word)) {
			s.address = true
		}
		previous = s.word(word, text[start:end], version, previous)
	}
}

func hasHTTP(word []byte) bool {
	for len(word) > 0 && !isLetter(word[0]) {
		word = word[1:]
	}
	return string(word) == "http:" || string(word) == "https:"
}

// word takes note of one word, in lower case, and returns its name if the next one may be its version.
func (s *scan) word(word []byte, original, version, previous string) string {
	if isDigit(word[0]) {
		switch previous {
		case "msie":
			s.msie, s.presentMSIE = major(original), true
		case "opera":
			s.opera, s.presentOpera = major(original), true
		case "brand":
			s.setBrand(s.pending, original, s.pendingRank)
		}
		return ""
	}
	switch string(word) {
	// The prefix and the engines.
	case "mozilla", "khtml", "like", "u", "k":
		return ""
	case "compatible":
		s.compatible = true
		return ""
	case "applewebkit":
		s.webkit = true
		return ""
	case "gecko":
		s.gecko = s.gecko || version != "" // "like Gecko" has none
		return ""
	case "goanna":
		s.goanna = true
	case "chrome", "chromium":
		if !s.presentChrome || string(word) == "chrome" && version != "" {
			s.chrome, s.presentChrome = major(version), true
		}
		return ""
	case "firefox", "fennec", "minefield", "firebird", "phoenix", "namoroka", "shiretoko", "bonecho", "granparadiso", "lorentz":
		if version != "" {
			s.firefox, s.presentFirefox = major(version), true
		}
		return ""
	case "safari":
		s.safari = true
		return ""
	case "version":
		s.version, s.presentVersion = major(version), version != ""
		return ""
	case "mobile":
		s.mobile = true
		s.mobileSafari = s.mobileSafari || version != ""
		return ""
	case "msie":
		if version != "" {
			s.msie, s.presentMSIE = major(version), true
		}
		return "msie"
	case "trident":
		s.trident, s.presentTrident = major(version), true
		return ""
	case "wv":
		s.webView = true
		return ""

	// Systems. The rank says which one counts when several are named: an Android
	// browser also says Linux, and one on an iPhone "like Mac OS X".
	case "windows":
		s.setOS("Windows", 5, false)
		return "windows"
	case "phone":
		if previous == "windows" {
			s.setOS("Windows Phone", 9, true)
		}
		return ""
	case "win64", "win98", "win95", "winnt", "win32":
		s.setOS("Windows", 4, false)
		return ""
	case "macintosh", "mac_powerpc":
		s.setOS("macOS", 4, false)
		return ""
	case "macos":
		s.setOS("macOS", 1, false)
		return ""
	case "iphone", "ipad", "ipod", "ios":
		s.setOS("iOS", 8, true)
		return ""
	case "android":
		s.setOS("Android", 7, true)
		return ""
	case "cros":
		s.setOS("ChromeOS", 6, false)
		return ""
	case "linux":
		s.setOS("Linux", 2, false)
		return ""
	case "x11":
		s.setOS("Linux", 1, false)
		return ""
	case "freebsd":
		s.setOS("FreeBSD", 3, false)
		return ""
	case "openbsd":
		s.setOS("OpenBSD", 3, false)
		return ""
	case "netbsd":
		s.setOS("NetBSD", 3, false)
		return ""
	case "sunos":
		s.setOS("Solaris", 3, false)
		return ""
	case "haiku", "beos":
		s.setOS("Haiku", 3, false)
		return ""
	case "amigaos", "morphos":
		s.setOS("AmigaOS", 6, false)
		return ""
	case "tizen":
		s.setOS("Tizen", 6, false)
		return ""
	case "kaios", "kai":
		s.setOS("KaiOS", 8, true)
		return ""
	case "web0s", "webos", "hpwos":
		s.setOS("webOS", 6, false)
		return ""
	case "playstation", "nintendo":
		s.setOS("Console", 6, false)
		return ""
	case "blackberry", "bb10", "playbook":
		s.setOS("BlackBerry", 8, true)
		return ""
	case "symbianos", "symbian", "series60", "series40":
		s.setOS("Symbian", 8, true)
		return ""

	// What applications are made with.
	case "cfnetwork", "dalvik", "okhttp": // CFNetwork comes with Darwin, which is macOS and iOS alike
		s.app = true
		return ""
	case "electron":
		s.setBrand("Electron", version, brandView)
		return ""

	case "opera":
		if version != "" {
			s.opera, s.presentOpera = major(version), true
		}
		return "opera"
	case "profile", "configuration":
		s.mobile = s.mobile || len(version) > 4 && (version[:4] == "MIDP" || version[:4] == "CLDC") // telephones before the smart ones
		return ""
	case "wap", "maui": // the browser of plain telephones, and the system that many of them run
		s.mobile = true
		return ""
	case "mini":
		if previous == "opera" {
			s.setBrand("Opera Mini", version, brandBrowser)
		}
		return ""
	case "rv":
		return ""
	}
	if len(word) > 3 && string(word[:3]) == "rv:" {
		s.rv = major(string(word[3:]))
		return ""
	}
	if name, rank := brandOf(word); rank != noBrand {
		if version != "" || !needsVersion(name) {
			s.setBrand(name, version, rank)
		}
		if version == "" {
			s.pending, s.pendingRank = name, rank
			return "brand"
		}
	}
	if !s.address && version != "" && !isAddress(word) {
		if name := clip(original); isPlainName(name) {
			s.linked, s.linkedVersion = name, version
		}
	} else if !s.address && s.compatible && s.linked == "" && len(original) > 3 && isPlainName(original) && isLetter(original[0]) {
		// "(compatible; Example; +https://example.org)"
		s.linked, s.linkedVersion = clip(original), ""
	}
	return ""
}

func isAddress(word []byte) bool { return word[len(word)-1] == ':' }

func isPlainName(name string) bool {
	for i := range len(name) {
		if !isName(name[i]) {
			return false
		}
	}
	return name != ""
}

func (s *scan) setBrand(name, version string, rank brandRank) {
	// The first brand of the highest rank, with its first version.
	if rank < s.brandRank || rank == s.brandRank && (name != s.brand || s.brandVersioned) {
		return
	}
	s.brand, s.brandMajor, s.brandRank = name, major(version), rank
	s.brandVersioned = version != "" && isDigit(version[0])
}

func (s *scan) setOS(name string, rank uint8, mobile bool) {
	s.mobile = s.mobile || mobile
	if rank > s.osRank {
		s.os, s.osRank = name, rank
	}
}

// browser returns the browser, or the application that shows pages, that the words
// amount to; ok is false if they amount to none.
func (s *scan) browser() (name string, number int, app, ok bool) {
	switch {
	case s.brandRank == brandApp:
		return s.brand, s.brandMajor, true, true
	case s.brandRank == brandView:
		return s.brand, s.brandMajor, true, true
	case s.brandRank == brandBrowser:
		if !s.brandVersioned && s.presentChrome {
			return s.brand, s.chrome, false, true // "Brave Chrome/80.0": the engine's version is theirs
		}
		return s.brand, s.brandMajor, false, true
	case s.presentOpera:
		number = s.opera
		if s.presentVersion && s.version > number { // since Opera 10: "Opera/9.80 … Version/12.16"
			number = s.version
		}
		return "Opera", number, false, true
	case s.webView && s.presentChrome:
		return "Android WebView", s.chrome, true, true
	case s.os == "Android" && s.presentChrome && s.presentVersion && s.version == 4:
		return "Android WebView", s.chrome, true, true // before "wv" was written, and with Chrome 30 to 36
	case s.presentChrome:
		return "Chrome", s.chrome, false, true
	case s.presentFirefox:
		return "Firefox", s.firefox, false, true
	case s.presentMSIE:
		if s.presentTrident { // in compatibility view it calls itself 7 and only the engine tells
			return "Internet Explorer", max(s.msie, min(s.trident+4, 11)), false, true
		}
		return "Internet Explorer", s.msie, false, true
	case s.presentTrident && s.rv != 0:
		return "Internet Explorer", s.rv, false, true
	case s.webkit && s.os == "Android":
		return "Android Browser", s.version, false, true
	case s.webkit && s.os == "BlackBerry":
		return "BlackBerry", s.version, false, true
	case s.webkit && s.safari && s.presentVersion:
		return "Safari", s.version, false, true
	case s.webkit && s.os == "iOS" && !s.safari:
		return "iOS WebView", 0, true, true
	case s.webkit && s.safari:
		return "Safari", 0, false, true
	case s.webkit:
		return "WebKit", 0, false, true
	case s.os == "Console":
		return "Game console", 0, false, true
	case s.gecko || s.goanna:
		return "Mozilla", s.rv, false, true
	}
	return "", 0, false, false
}

// isSeparator reports whether b stands between words. IIS writes a plus sign for a space in its logs.
func isSeparator(b byte) bool {
	switch b {
	case ' ', '+', ';', '(', ')', ',', '[', ']', '"', '\'', '{', '}', '|', '=':
		return true
	}
	return b < ' ' || b == 0x7f
}
