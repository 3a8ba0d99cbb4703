package opinion

import (
	"math"
	"path"
	"strings"
)

// rounded is a number to two digits.
func rounded(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-1)
	r := math.Round(v/scale) * scale
	return math.Round(r*1e6) / 1e6 // what is left of binary fractions
}

// kinds are the words that kindOf has.
func kinds() []string {
	return []string{
		"front page", "robots.txt or sitemap", "feed", "asset", "download", "login or administration", "search for weaknesses", "interface for programs", "search",
		"history of a text or program", "page with a query", "page",
	}
}

// kindOf is what kind of address a path is. It is one of a few words of our own, whatever the path says.
func kindOf(p string) string {
	p, query, queried := strings.Cut(strings.ToLower(p), "?")
	name := path.Base(p)
	has := func(parts ...string) bool {
		for _, s := range parts {
			if strings.Contains(p, s) {
				return true
			}
		}
		return false
	}
	switch ext := path.Ext(name); {
	case p == "/" || p == "":
		return "front page"
	case name == "robots.txt" || strings.HasPrefix(name, "sitemap"):
		return "robots.txt or sitemap"
	case has("/feed", "/rss", "/atom") || ext == ".rss" || ext == ".atom":
		return "feed"
	case ext == ".css" || ext == ".js" || ext == ".png" || ext == ".jpg" || ext == ".jpeg" || ext == ".gif" || ext == ".svg" || ext == ".webp" || ext == ".ico" || ext == ".woff2":
		return "asset"
	case ext == ".zip" || ext == ".gz" || ext == ".pdf" || ext == ".tar":
		return "download"
	case has("/login", "/signin", "/admin", "/wp-login", "/register"):
		return "login or administration"
	case has("/.env", "/.git/", "/wp-config", "/phpmyadmin", "/../"):
		return "search for weaknesses"
	case has("/api/", "/graphql") || ext == ".json":
		return "interface for programs"
	case has("/search") || queried && (strings.Contains(query, "q=") || strings.Contains(query, "search=")):
		return "search"
	case has("/commit", "/blame", "/diff", "/history", "/compare", "/raw/") || strings.Contains(query, "diff=") || strings.Contains(query, "oldid="):
		return "history of a text or program"
	case queried:
		return "page with a query"
	}
	return "page"
}
