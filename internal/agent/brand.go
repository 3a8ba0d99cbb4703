package agent

// brandOf returns the name of the browser or application that writes the word, which
// is in lower case, and of which kind it is.
func brandOf(word []byte) (name string, rank brandRank) {
	switch string(word) {
	// On Chrome's engine.
	case "edg", "edge", "edga", "edgios":
		return "Edge", brandBrowser
	case "crios":
		return "Chrome", brandBrowser
	case "opr", "opios", "opt", "oprgx", "opx":
		return "Opera", brandBrowser
	case "samsungbrowser":
		return "Samsung Internet", brandBrowser
	case "vivaldi":
		return "Vivaldi", brandBrowser
	case "yabrowser":
		return "Yandex Browser", brandBrowser
	case "brave":
		return "Brave", brandBrowser
	case "ucbrowser", "ubrowser", "uc", "ucweb":
		return "UC Browser", brandBrowser
	case "mqqbrowser", "qqbrowser":
		return "QQ Browser", brandBrowser
	case "miuibrowser":
		return "MIUI Browser", brandBrowser
	case "huaweibrowser":
		return "Huawei Browser", brandBrowser
	case "heytapbrowser":
		return "HeyTap Browser", brandBrowser
	case "honorbrowser":
		return "Honor Browser", brandBrowser
	case "vivobrowser":
		return "Vivo Browser", brandBrowser
	case "whale":
		return "Whale", brandBrowser
	case "silk":
		return "Silk", brandBrowser
	case "ddg", "duckduckgo":
		return "DuckDuckGo", brandBrowser
	case "coc_coc_browser":
		return "Coc Coc", brandBrowser
	case "maxthon", "mxbrowser":
		return "Maxthon", brandBrowser
	case "iron":
		return "Iron", brandBrowser
	case "avast":
		return "Avast Secure Browser", brandBrowser
	case "aloha", "alohabrowser":
		return "Aloha", brandBrowser
	case "ecosia":
		return "Ecosia", brandBrowser
	case "sogoumobilebrowser", "metasr":
		return "Sogou Explorer", brandBrowser
	case "bidubrowser", "baidubrowser":
		return "Baidu Browser", brandBrowser
	case "puffin":
		return "Puffin", brandBrowser
	case "oculusbrowser":
		return "Oculus Browser", brandBrowser
	case "dolphin":
		return "Dolphin", brandBrowser
	case "mercury":
		return "Mercury", brandBrowser
	case "qtwebengine":
		return "QtWebEngine", brandView

	// On Firefox's engine.
	case "fxios":
		return "Firefox", brandBrowser
	case "focus", "klar":
		return "Firefox Focus", brandBrowser
	case "palemoon":
		return "Pale Moon", brandBrowser
	case "basilisk":
		return "Basilisk", brandBrowser
	case "seamonkey":
		return "SeaMonkey", brandBrowser
	case "waterfox":
		return "Waterfox", brandBrowser
	case "iceweasel":
		return "Iceweasel", brandBrowser
	case "icecat":
		return "IceCat", brandBrowser
	case "k-meleon":
		return "K-Meleon", brandBrowser
	case "camino":
		return "Camino", brandBrowser
	case "galeon":
		return "Galeon", brandBrowser
	case "netscape", "netscape6", "navigator":
		return "Netscape", brandBrowser

	// On other engines.
	case "epiphany":
		return "GNOME Web", brandBrowser
	case "konqueror":
		return "Konqueror", brandBrowser
	case "falkon", "qupzilla":
		return "Falkon", brandBrowser
	case "midori":
		return "Midori", brandBrowser
	case "otter":
		return "Otter", brandBrowser
	case "omniweb":
		return "OmniWeb", brandBrowser
	case "icab":
		return "iCab", brandBrowser
	case "ladybird":
		return "Ladybird", brandBrowser
	case "iemobile":
		return "IE Mobile", brandBrowser
	case "netfront", "nx":
		return "NetFront", brandBrowser
	case "arora":
		return "Arora", brandBrowser
	case "rekonq":
		return "Rekonq", brandBrowser
	case "dooble":
		return "Dooble", brandBrowser
	case "amigavoyager":
		return "AmigaVoyager", brandBrowser
	case "amiga-aweb":
		return "AWeb", brandBrowser
	case "ibrowse":
		return "IBrowse", brandBrowser
	case "netpositive":
		return "NetPositive", brandBrowser
	case "webpositive":
		return "WebPositive", brandBrowser
	case "ncsa_mosaic", "mosaic":
		return "NCSA Mosaic", brandBrowser
	case "obigo":
		return "Obigo", brandBrowser
	case "dolfin":
		return "Dolfin", brandBrowser

	// In a terminal, or nearly.
	case "lynx":
		return "Lynx", brandBrowser
	case "w3m":
		return "w3m", brandBrowser
	case "links":
		return "Links", brandBrowser
	case "elinks":
		return "ELinks", brandBrowser
	case "netsurf":
		return "NetSurf", brandBrowser
	case "dillo":
		return "Dillo", brandBrowser
	case "edbrowse":
		return "edbrowse", brandBrowser
	case "eww", "emacs-w3m":
		return "Emacs", brandBrowser

	// Browsers inside applications.
	case "fban", "fb_iab", "fbios", "fbav", "fb4a":
		return "Facebook", brandApp
	case "instagram":
		return "Instagram", brandApp
	case "barcelona":
		return "Threads", brandApp
	case "micromessenger":
		return "WeChat", brandApp
	case "gsa", "googleapp":
		return "Google App", brandApp
	case "snapchat":
		return "Snapchat", brandApp
	case "pinterest":
		return "Pinterest", brandApp
	case "musical_ly", "trill", "bytedancewebview", "tiktok":
		return "TikTok", brandApp
	case "line":
		return "LINE", brandApp
	case "kakaotalk":
		return "KakaoTalk", brandApp
	case "linkedinapp":
		return "LinkedIn", brandApp
	case "twitter", "twitterandroid":
		return "Twitter", brandApp
	case "weibo":
		return "Weibo", brandApp
	case "naver":
		return "NAVER", brandApp
	case "baiduboxapp":
		return "Baidu", brandApp
	case "viber":
		return "Viber", brandApp
	case "bingweb", "bingsapphire":
		return "Bing", brandApp
	case "webviewapp":
		return "WebViewApp", brandApp
	case "telegram", "telegram-android":
		return "Telegram", brandApp
	case "discord":
		return "Discord", brandApp
	case "slack", "slack_ssb":
		return "Slack", brandApp

	// Mail and other programs that show pages.
	case "thunderbird":
		return "Thunderbird", brandApp
	case "postbox":
		return "Postbox", brandApp
	case "outlook", "outlook-express", "outlook-ios", "outlook-android":
		return "Outlook", brandApp
	case "msoffice", "office":
		return "Microsoft Office", brandApp
	case "mirall":
		return "Nextcloud", brandApp
	case "spotify":
		return "Spotify", brandApp
	case "adobeair":
		return "Adobe AIR", brandApp
	case "applecoremedia":
		return "AppleCoreMedia", brandApp
	case "quicktime":
		return "QuickTime", brandApp
	case "vlc":
		return "VLC", brandApp
	case "kodi":
		return "Kodi", brandApp
	case "sonos":
		return "Sonos", brandApp
	case "mozacfetch":
		return "Firefox components", brandApp
	case "ps4application":
		return "PlayStation", brandApp
	case "stagefright":
		return "Android media player", brandApp
	}
	return "", noBrand
}

// needsVersion reports whether the brand's name is also a plain word or a name of something
// else, so that it counts only with a version.
func needsVersion(name string) bool {
	switch name {
	case "Edge", "Opera", "UC Browser", "Iron", "Dolphin", "Mercury", "Midori", "Otter", "Netscape", "NetFront", "Silk", "Puffin", "Emacs",
		"LINE", "Slack", "Discord", "Outlook", "Microsoft Office", "Weibo", "NAVER", "Telegram", "Pinterest", "Spotify", "Avast Secure Browser",
		"Falkon", "Sonos", "Basilisk":
		return true
	}
	return false
}
