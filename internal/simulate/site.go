package simulate

import (
	"fmt"
	"hash/fnv"
	"html"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Sizes of the synthetic site.
const (
	siteArticles  = 600
	siteItems     = 8000
	siteCommits   = 1500
	siteFiles     = 40
	sitePictures  = 300
	itemsPerPage  = 25
	commitsOnPage = 25
	revisionsEach = 40 // numbers kept for an article's revisions
	firstRevision = 10_000
)

const repository = "/garden/hedge"

// Site is a synthetic web site to protect: a wiki with old revisions and differences, a catalogue of items, a forge with
// commits and blame, style sheet, script, font, pictures, a feed, robots.txt, and a git repository. Every answer follows from the seed
// and the address; nothing is stored. It is safe for concurrent use.
type Site struct {
	seed    uint64
	slugs   []string       // of articles
	article map[string]int // by slug
	commits []string       // hashes, newest first
	commit  map[string]int
}

// NewSite returns the site of a seed.
func NewSite(seed uint64) *Site {
	s := &Site{seed: seed, article: map[string]int{}, commit: map[string]int{}}
	order := s.rng("order", 0).Perm(siteArticles)
	for i := range siteArticles {
		n := order[i]
		slug := firstWords[n%len(firstWords)] + "_" + secondWords[n/len(firstWords)]
		s.slugs = append(s.slugs, slug)
		s.article[slug] = i
	}
	for i := range siteCommits {
		r := s.rng("commit", i)
		hash := fmt.Sprintf("%016x%016x%08x", r.Uint64(), r.Uint64(), r.Uint32())
		s.commits = append(s.commits, hash)
		s.commit[hash] = i
	}
	return s
}

var (
	firstWords = [...]string{"Common", "Wild", "Silver", "Creeping", "Winter", "Copper", "Golden", "Water", "Mountain", "Field", "Sweet", "Black", "White",
		"Red", "Dwarf", "Giant", "Weeping", "Evergreen", "Northern", "Southern", "Prickly", "Climbing", "Bitter", "Marsh", "Coast", "Stone", "Blue", "Spotted",
		"Hairy", "Early"}
	secondWords = [...]string{"Hawthorn", "Hornbeam", "Blackthorn", "Privet", "Holly", "Yew", "Beech", "Hazel", "Dogwood", "Rose", "Bramble", "Elder", "Spindle",
		"Buckthorn", "Laurel", "Willow", "Maple", "Juniper", "Box", "Barberry"}
	proseWords = strings.Fields(`the hedge is cut in late winter before the sap rises and again when birds have left their nests old stems are laid at an angle
		so that new shoots grow from the base roots want air and the soil between rows stays moist under leaves a gap of one foot closes within
		three years many insects live in dead wood berries feed thrushes until frost wind passes through and loses its force where a wall would only
		throw it over gardeners plant whips of two years in a double row water them through the first summer and wait`)
	fileNames = [...]string{"main", "hedge", "prune", "season", "soil", "berry", "roots", "thorn", "trellis", "compost"}
)

// rng returns the chance of one thing on the site.
func (s *Site) rng(kind string, n int) *rand.Rand {
	h := fnv.New64a()
	io.WriteString(h, kind)
	return rand.New(rand.NewPCG(s.seed^h.Sum64(), uint64(n)))
}

// LongArticle is the target of the article that a flash crowd reads: the longest, and the dearest to make.
func (s *Site) LongArticle() string { return s.ArticleAt(longArticle) }

const longArticle = 7

// ArticleAt returns the target of an article; small numbers are the popular ones.
func (s *Site) ArticleAt(i int) string { return "/wiki/" + s.slugs[i%siteArticles] }

// revisionOf returns the target of an article's old revision, the newest having the highest k.
func (s *Site) revisionOf(article, k int) string {
	return fmt.Sprintf("/w/index.php?title=%s&oldid=%d", s.slugs[article], firstRevision+article*revisionsEach+k)
}

func (s *Site) diffOf(article, k int) string {
	n := firstRevision + article*revisionsEach + k
	return fmt.Sprintf("/w/index.php?title=%s&diff=%d&oldid=%d", s.slugs[article], n, n-1)
}

func (s *Site) revisions(article int) int {
	return 5 + s.rng("revisions", article).IntN(revisionsEach-5)
}

// deepTarget returns a page that few readers open: an old revision, a difference, a commit, an item, and now and then an article.
func (s *Site) deepTarget(rng *rand.Rand) string {
	article := rng.IntN(siteArticles)
	switch x := rng.IntN(100); {
	case x < 35:
		return s.revisionOf(article, rng.IntN(s.revisions(article)))
	case x < 50:
		return s.diffOf(article, 1+rng.IntN(s.revisions(article)-1))
	case x < 70:
		return repository + "/commit/" + pick(rng, s.commits)
	case x < 85:
		return "/items/" + strconv.Itoa(1+rng.IntN(siteItems))
	}
	return s.ArticleAt(article)
}

// popularTarget returns a page as readers come to it: mostly an article, the first ones far more often than the rest.
func (s *Site) popularTarget(rng *rand.Rand) string {
	switch x := rng.IntN(100); {
	case x < 12:
		return "/"
	case x < 22:
		return "/items/" + strconv.Itoa(1+zipf(rng, siteItems))
	case x < 27:
		return repository
	}
	return s.ArticleAt(zipf(rng, siteArticles))
}

// zipf returns a number below n, of which i is about as likely as 1/(i+1).
func zipf(rng *rand.Rand, n int) int {
	z := rand.NewZipf(rng, 1.1, 3, uint64(n-1))
	return int(z.Uint64())
}

// Robots is the site's robots.txt.
const Robots = `User-agent: *
Disallow: /w/
Disallow: /garden/hedge/commit/
Disallow: /garden/hedge/commits/
Disallow: /garden/hedge/blame/
Disallow: /items/?page=
Crawl-delay: 2
`

// class is a kind of page of the site.
type class uint8

const (
	classMissing class = iota
	classFront
	classArticle
	classHistory
	classRevision
	classDiff
	classItems
	classItem
	classRepository
	classFile
	classBlame
	classCommits
	classCommit
	classFeed
	classRobots
	classAsset
	classGitRefs
	classGitPack
)

// costs are what the pages take of one worker of the server that makes them.
var costs = [...]time.Duration{
	classMissing: 4 * time.Millisecond, classFront: 15 * time.Millisecond, classArticle: 12 * time.Millisecond, classHistory: 60 * time.Millisecond,
	classRevision: 120 * time.Millisecond, classDiff: 200 * time.Millisecond, classItems: 60 * time.Millisecond, classItem: 35 * time.Millisecond,
	classRepository: 40 * time.Millisecond, classFile: 50 * time.Millisecond, classBlame: 300 * time.Millisecond, classCommits: 120 * time.Millisecond,
	classCommit: 110 * time.Millisecond, classFeed: 5 * time.Millisecond, classRobots: 200 * time.Microsecond, classAsset: 300 * time.Microsecond,
	classGitRefs: 20 * time.Millisecond, classGitPack: 250 * time.Millisecond,
}

// Cost returns how long one worker of the server is busy with a request for that target.
func (s *Site) Cost(target string) time.Duration {
	a := s.find(target)
	cost := costs[a.class]
	if a.class == classArticle && a.n == longArticle {
		cost *= 12
	}
	return cost
}

// address is a target that has been understood.
type address struct {
	class class
	n     int    // which article, item, commit, page
	k     int    // which revision, from 0
	name  string // of a file, of an asset
}

// find reads a target.
func (s *Site) find(target string) address {
	path, query, _ := strings.Cut(target, "?")
	switch path {
	case "/":
		return address{class: classFront}
	case "/robots.txt":
		return address{class: classRobots}
	case "/feed.xml":
		return address{class: classFeed}
	case "/favicon.ico":
		return address{class: classAsset, name: "favicon.ico"}
	case "/items/":
		page := 1
		if v, ok := strings.CutPrefix(query, "page="); ok {
			page, _ = strconv.Atoi(v) // 0 is no page
		}
		if page >= 1 && page <= siteItems/itemsPerPage {
			return address{class: classItems, n: page}
		}
		return address{}
	case "/w/index.php":
		return s.findScript(query)
	case repository:
		return address{class: classRepository}
	case repository + ".git/info/refs":
		return address{class: classGitRefs}
	case repository + ".git/git-upload-pack":
		return address{class: classGitPack}
	case repository + "/commits/branch/main":
		page := 1
		if v, ok := strings.CutPrefix(query, "page="); ok {
			page, _ = strconv.Atoi(v)
		}
		if page >= 1 && page <= siteCommits/commitsOnPage {
			return address{class: classCommits, n: page}
		}
		return address{}
	}
	if slug, ok := strings.CutPrefix(path, "/wiki/"); ok {
		if i, ok := s.article[slug]; ok {
			return address{class: classArticle, n: i}
		}
		return address{}
	}
	if number, ok := strings.CutPrefix(path, "/items/"); ok {
		if n, err := strconv.Atoi(number); err == nil && n >= 1 && n <= siteItems && number == strconv.Itoa(n) {
			return address{class: classItem, n: n}
		}
		return address{}
	}
	if name, ok := strings.CutPrefix(path, "/static/"); ok {
		return findAsset(name)
	}
	if hash, ok := strings.CutPrefix(path, repository+"/commit/"); ok {
		if n, ok := s.commit[hash]; ok {
			return address{class: classCommit, n: n}
		}
		return address{}
	}
	for prefix, class := range map[string]class{repository + "/src/branch/main/": classFile, repository + "/blame/branch/main/": classBlame} {
		if name, ok := strings.CutPrefix(path, prefix); ok {
			for i := range siteFiles {
				if fileName(i) == name {
					return address{class: class, n: i, name: name}
				}
			}
		}
	}
	return address{}
}

func findAsset(name string) address {
	switch name {
	case "style.css", "site.js", "logo.svg", "serif.woff2":
		return address{class: classAsset, name: name}
	}
	if number, ok := strings.CutPrefix(name, "img/"); ok {
		number, ok = strings.CutSuffix(number, ".jpg")
		if n, err := strconv.Atoi(number); ok && err == nil && n >= 0 && n < sitePictures {
			return address{class: classAsset, name: name, n: n}
		}
	}
	return address{}
}

// findScript reads the parameters of the wiki's script, in any order.
func (s *Site) findScript(query string) address {
	values := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	n, ok := s.article[values["title"]]
	if !ok {
		return address{}
	}
	if values["action"] == "history" {
		return address{class: classHistory, n: n}
	}
	revision, err := strconv.Atoi(values["oldid"])
	k := revision - firstRevision - n*revisionsEach
	if err != nil || k < 0 || k >= s.revisions(n) {
		return address{}
	}
	if values["diff"] != "" {
		return address{class: classDiff, n: n, k: k}
	}
	return address{class: classRevision, n: n, k: k}
}

func fileName(i int) string {
	return fmt.Sprintf("%s/%s_%d.go", fileNames[i%4], fileNames[i%len(fileNames)], i/len(fileNames))
}

// ETag returns the validator of the answer at a target.
func (s *Site) ETag(target string) string {
	h := fnv.New64a()
	io.WriteString(h, target)
	return fmt.Sprintf(`"%x"`, h.Sum64()^s.seed)
}

// ServeHTTP answers. Pages must be revalidated at each visit, what they are made of is fresh for days.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := r.URL.RequestURI()
	a := s.find(target)
	git := a.class == classGitPack
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !(git && r.Method == http.MethodPost) {
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	switch a.class {
	case classMissing:
		http.NotFound(w, r)
		return
	case classGitRefs:
		h.Set("Content-Type", "application/x-git-upload-pack-advertisement")
		h.Set("Cache-Control", "no-cache")
		io.WriteString(w, "001e# service=git-upload-pack\n0000000eversion 2\n0000")
		return
	case classGitPack:
		h.Set("Content-Type", "application/x-git-upload-pack-result")
		h.Set("Cache-Control", "no-cache")
		io.WriteString(w, "0035"+s.commits[0]+" HEAD\n0000")
		return
	case classAsset:
		h.Set("Cache-Control", "public, max-age=604800")
	case classFeed, classRobots:
		h.Set("Cache-Control", "max-age=300")
	default:
		h.Set("Cache-Control", "private, max-age=0, must-revalidate")
	}
	tag := s.ETag(target)
	h.Set("Etag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body, kind := s.body(a, r.Host)
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	io.WriteString(w, body) // an error means that the client has gone
}

// body returns what there is at an address, and its type.
func (s *Site) body(a address, host string) (body, kind string) {
	switch a.class {
	case classRobots:
		return Robots, "text/plain; charset=utf-8"
	case classFeed:
		return s.feed(host), "application/rss+xml; charset=utf-8"
	case classAsset:
		switch {
		case a.name == "style.css":
			return "@font-face{font-family:Serif;src:url(/static/serif.woff2)}\nbody{font:1.1rem/1.6 Serif,serif;max-width:42rem;margin:auto}\nnav a{margin-right:1rem}\n", "text/css; charset=utf-8"
		case a.name == "site.js":
			return "document.documentElement.classList.add('scripts');\n", "text/javascript; charset=utf-8"
		case a.name == "logo.svg":
			return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path d="M1 15 8 1l7 14z"/></svg>`, "image/svg+xml"
		case a.name == "serif.woff2":
			return strings.Repeat("wOF2", 256), "font/woff2"
		case a.name == "favicon.ico":
			return strings.Repeat("\x00", 198), "image/x-icon"
		}
		return strings.Repeat("\xff\xd8", 1024+s.rng("picture", a.n).IntN(3000)), "image/jpeg"
	}
	return s.page(a), "text/html; charset=utf-8"
}

// document writes pages.
type document struct {
	strings.Builder
	rng *rand.Rand
}

func (d *document) link(target, title string) {
	d.WriteString(`<a href="` + strings.ReplaceAll(target, "&", "&amp;") + `">` + title + `</a>`)
}

func (d *document) listLink(target, title string) {
	d.WriteString("<li>")
	d.link(target, title)
	d.WriteString("</li>\n")
}

// prose writes n sentences.
func (d *document) prose(n int) {
	for range n {
		at := d.rng.IntN(len(proseWords))
		length := 8 + d.rng.IntN(14)
		for i := range length {
			if i > 0 {
				d.WriteByte(' ')
			}
			d.WriteString(proseWords[(at+i)%len(proseWords)])
		}
		d.WriteString(". ")
	}
}

func (s *Site) title(article int) string { return strings.ReplaceAll(s.slugs[article], "_", " ") }

// page returns the HTML at an address.
func (s *Site) page(a address) string {
	d := &document{rng: s.rng(strconv.Itoa(int(a.class)), a.n*1000+a.k)}
	d.Grow(8 << 10)
	title := ""
	switch a.class {
	case classFront:
		title = "The Hedge Book"
	case classArticle, classHistory, classRevision, classDiff:
		title = s.title(a.n)
	case classItems:
		title = "Herbarium, page " + strconv.Itoa(a.n)
	case classItem:
		title = "Sheet " + strconv.Itoa(a.n)
	default:
		title = "garden/hedge"
	}
	d.WriteString("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + title + "</title>\n" +
		"<link rel=\"stylesheet\" href=\"/static/style.css\"><link rel=\"icon\" href=\"/favicon.ico\"><script src=\"/static/site.js\" defer></script></head>\n" +
		"<body><nav><img src=\"/static/logo.svg\" alt=\"\">")
	d.link("/", "Front page")
	d.link("/items/", "Herbarium")
	d.link(repository, "Source")
	d.WriteString("</nav>\n<main><h1>" + title + "</h1>\n")
	switch a.class {
	case classFront:
		s.writeFront(d)
	case classArticle:
		s.writeArticle(d, a.n)
	case classHistory:
		d.WriteString("<ul>\n")
		for k := s.revisions(a.n) - 1; k >= 0; k-- {
			d.listLink(s.revisionOf(a.n, k), "Revision "+strconv.Itoa(k+1))
			if k > 0 {
				d.listLink(s.diffOf(a.n, k), "difference")
			}
		}
		d.WriteString("</ul>\n")
	case classRevision, classDiff:
		d.WriteString("<p>An old revision of ")
		d.link(s.ArticleAt(a.n), title)
		d.WriteString(".</p>\n<p>")
		d.prose(30)
		d.WriteString("</p>\n")
		if a.k > 0 {
			d.link(s.revisionOf(a.n, a.k-1), "older")
		}
		if a.k+1 < s.revisions(a.n) {
			d.link(s.revisionOf(a.n, a.k+1), "newer")
		}
	case classItems:
		d.WriteString("<ul>\n")
		for i := range itemsPerPage {
			n := (a.n-1)*itemsPerPage + i + 1
			d.listLink("/items/"+strconv.Itoa(n), "Sheet "+strconv.Itoa(n))
		}
		d.WriteString("</ul>\n")
		if a.n > 1 {
			d.link("/items/?page="+strconv.Itoa(a.n-1), "previous")
		}
		if a.n < siteItems/itemsPerPage {
			d.link("/items/?page="+strconv.Itoa(a.n+1), "next")
		}
	case classItem:
		fmt.Fprintf(d, "<img src=\"/static/img/%d.jpg\" alt=\"The sheet\">\n<p>", a.n%sitePictures)
		d.prose(6)
		d.WriteString("</p>\n")
		for range 4 {
			n := 1 + d.rng.IntN(siteItems)
			d.link("/items/"+strconv.Itoa(n), "Sheet "+strconv.Itoa(n))
		}
		d.link(s.ArticleAt(d.rng.IntN(siteArticles)), "Article")
	case classRepository:
		d.WriteString("<ul>\n")
		for i := range siteFiles {
			d.listLink(repository+"/src/branch/main/"+fileName(i), fileName(i))
		}
		d.WriteString("</ul>\n")
		d.link(repository+"/commits/branch/main", "Commits")
	case classFile, classBlame:
		d.WriteString("<pre>")
		d.prose(60)
		d.WriteString("</pre>\n")
		d.link(repository, "garden/hedge")
		d.link(repository+"/blame/branch/main/"+a.name, "Blame")
		d.link(repository+"/commits/branch/main", "Commits")
	case classCommits:
		d.WriteString("<ul>\n")
		for i := range commitsOnPage {
			hash := s.commits[(a.n-1)*commitsOnPage+i]
			d.listLink(repository+"/commit/"+hash, hash[:10])
		}
		d.WriteString("</ul>\n")
		if a.n < siteCommits/commitsOnPage {
			d.link(repository+"/commits/branch/main?page="+strconv.Itoa(a.n+1), "older")
		}
	case classCommit:
		d.WriteString("<pre>")
		d.prose(25)
		d.WriteString("</pre>\n")
		if a.n+1 < siteCommits {
			d.link(repository+"/commit/"+s.commits[a.n+1], "parent")
		}
		d.link(repository+"/src/branch/main/"+fileName(d.rng.IntN(siteFiles)), "file")
	}
	d.WriteString("\n</main></body></html>\n")
	return d.String()
}

func (s *Site) writeFront(d *document) {
	d.WriteString("<p>")
	d.prose(6)
	d.WriteString("</p><ul>\n")
	for range 12 {
		i := zipf(d.rng, siteArticles)
		d.listLink(s.ArticleAt(i), s.title(i))
	}
	for i := range 30 {
		d.listLink(s.ArticleAt(i), s.title(i))
	}
	d.WriteString("</ul>\n")
}

func (s *Site) writeArticle(d *document, n int) {
	paragraphs := 4 + d.rng.IntN(6)
	pictures := 1 + d.rng.IntN(4)
	if n == longArticle {
		paragraphs, pictures = 40, 12
	}
	for i := range paragraphs {
		if i < pictures {
			fmt.Fprintf(d, "<img src=\"/static/img/%d.jpg\" alt=\"\" loading=\"lazy\">\n", d.rng.IntN(sitePictures))
		}
		d.WriteString("<p>")
		d.prose(2)
		other := zipf(d.rng, siteArticles)
		if d.rng.IntN(2) == 0 {
			other = (n + 1 + d.rng.IntN(12)) % siteArticles
		}
		d.link(s.ArticleAt(other), s.title(other))
		d.WriteString(". ")
		d.prose(1)
		d.WriteString("</p>\n")
	}
	item := 1 + d.rng.IntN(siteItems)
	d.link("/items/"+strconv.Itoa(item), "Sheet "+strconv.Itoa(item))
	d.link("/w/index.php?title="+s.slugs[n]+"&action=history", "History")
}

func (s *Site) feed(host string) string {
	host = html.EscapeString(host)
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<rss version=\"2.0\"><channel><title>The Hedge Book</title><link>https://" + host + "/</link><description>What has changed</description>\n")
	for i := range 20 {
		fmt.Fprintf(&b, "<item><title>%s</title><link>https://%s%s</link></item>\n", s.title(i), host, s.ArticleAt(i))
	}
	b.WriteString("</channel></rss>\n")
	return b.String()
}
