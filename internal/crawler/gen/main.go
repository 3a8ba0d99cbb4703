// Command gen writes the crawler catalogue from its sources.
//
//	go generate ./internal/crawler
//
// It merges three public lists with overrides.yaml, which says what must be right
// and what is not taken, and writes one entry a line, sorted by id, so that a
// refreshed source shows up as a readable difference. The same input gives the same output.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func main() {
	in := flag.String("in", "testdata/sources", "folder with the sources")
	overrides := flag.String("overrides", "overrides.yaml", "file with the hand-written part")
	out := flag.String("out", "catalogue.json", "file to write")
	flag.Parse()
	catalogue, err := build(*in, *overrides)
	if err == nil {
		err = os.WriteFile(*out, catalogue, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// The files in the folder of sources.
const (
	monperrusFile = "monperrus-crawler-user-agents.json"
	arcjetFile    = "arcjet-well-known-bots.json"
	aiRobotsFile  = "ai-robots-txt.json"
)

// overlay is the hand-written part.
type overlay struct {
	Crawlers []struct {
		ID       string          `yaml:"id"`
		Name     string          `yaml:"name"`
		Operator string          `yaml:"operator"`
		Purpose  defense.Purpose `yaml:"purpose"`
		URL      string          `yaml:"url"`
		Tokens   []string        `yaml:"tokens"`
		Robots   string          `yaml:"robots"`
		Provable []string        `yaml:"provable"`
	} `yaml:"crawlers"`
	Purposes map[string]defense.Purpose `yaml:"purposes"`
	Drop     map[string]string          `yaml:"drop"`
}

// builder collects entries; the first to claim a token keeps it.
type builder struct {
	overlay overlay
	entries []*defense.Crawler
	ids     map[string]bool
	owner   map[string]*defense.Crawler // by key of a token
}

// build returns the text of catalogue.json.
func build(in, overridesFile string) ([]byte, error) {
	b := &builder{ids: map[string]bool{}, owner: map[string]*defense.Crawler{}}
	text, err := os.ReadFile(overridesFile)
	if err != nil {
		return nil, err
	}
	if err := yaml.UnmarshalWithOptions(text, &b.overlay, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %w", overridesFile, err)
	}
	if err := b.addOverlay(); err != nil {
		return nil, fmt.Errorf("%s: %w", overridesFile, err)
	}
	// The order decides who names an entry and its purpose: the list about AI knows most about the
	// agents of AI, the second most about how claims are proved, the last is the longest.
	for _, source := range []struct {
		file string
		add  func([]byte) error
	}{{aiRobotsFile, b.addAIRobots}, {arcjetFile, b.addArcjet}, {monperrusFile, b.addMonperrus}} {
		text, err := os.ReadFile(filepath.Join(in, source.file))
		if err != nil {
			return nil, err
		}
		if err := source.add(text); err != nil {
			return nil, fmt.Errorf("%s: %w", source.file, err)
		}
	}
	return b.encode()
}

func (b *builder) addOverlay() error {
	for _, o := range b.overlay.Crawlers {
		if o.Name == "" {
			return fmt.Errorf("an entry without a name (id %q)", o.ID)
		}
		if !slices.Contains(defense.Purposes(), o.Purpose) {
			return fmt.Errorf("%s: unknown purpose %q", o.Name, o.Purpose)
		}
		c := &defense.Crawler{ID: o.ID, Name: o.Name, Operator: o.Operator, Purpose: o.Purpose, URL: o.URL, RespectsRobots: o.Robots, Provable: o.Provable}
		if len(o.Tokens) == 0 {
			o.Tokens = []string{o.Name}
		}
		for _, t := range o.Tokens {
			if other := b.owner[key(t)]; other != nil && other != c {
				return fmt.Errorf("%s: token %q belongs to %s", o.Name, t, other.Name)
			}
			b.claim(c, t)
		}
		if err := b.add(c); err != nil {
			return err
		}
	}
	for token, p := range b.overlay.Purposes {
		if !slices.Contains(defense.Purposes(), p) {
			return fmt.Errorf("purposes: %s: unknown purpose %q", token, p)
		}
	}
	return nil
}

// add gives the entry an id if it has none, and keeps it.
func (b *builder) add(c *defense.Crawler) error {
	if c.ID == "" {
		c.ID = slug(c.Name)
	}
	if c.ID == "" || b.ids[c.ID] {
		return fmt.Errorf("%s: id %q is empty or taken", c.Name, c.ID)
	}
	b.ids[c.ID] = true
	b.entries = append(b.entries, c)
	return nil
}

// claim adds a token to the entry unless it is taken or refused.
func (b *builder) claim(c *defense.Crawler, token string) {
	k := key(token)
	if b.owner[k] != nil {
		return
	}
	b.owner[k] = c
	c.Tokens = append(c.Tokens, token)
}

// found is what a source says of one agent.
type found struct {
	tokens    []string // the first names it
	instances []string
	operator  string
	purpose   defense.Purpose
	url       string
	robots    string
	provable  []string
}

// merge completes the entry that owns one of the tokens, or makes a new one.
func (b *builder) merge(f found) error {
	var c *defense.Crawler
	var free []string
	for _, t := range f.tokens {
		if _, dropped := b.overlay.Drop[key(t)]; dropped {
			continue
		}
		if owner := b.owner[key(t)]; owner != nil {
			if c == nil {
				c = owner
			}
			continue
		}
		if letters(t) >= 4 {
			free = append(free, t)
		}
	}
	if c == nil && len(free) == 0 {
		return nil
	}
	if c == nil {
		id := slug(free[0])
		if b.ids[id] {
			// Two spellings of one name, such as "Cookie Hub" and "cookiehub/".
			for _, e := range b.entries {
				if e.ID == id {
					c = e
				}
			}
		} else {
			c = &defense.Crawler{Name: strings.TrimRight(free[0], "/ ("), Purpose: f.purpose}
			if p, ok := b.overlay.Purposes[key(free[0])]; ok {
				c.Purpose = p
			}
			c.ID = id
			if err := b.add(c); err != nil {
				return err
			}
		}
	}
	for _, t := range free {
		b.claim(c, t)
	}
	c.Operator = cmp.Or(c.Operator, f.operator)
	c.RespectsRobots = cmp.Or(c.RespectsRobots, f.robots)
	if c.URL == "" && isWebAddress(f.url) {
		c.URL = f.url
	}
	if len(c.Provable) == 0 {
		c.Provable = f.provable
	}
	// Sources match inside words: "findlink" is meant to find "findlinks/1.0". What
	// their examples really say becomes tokens too.
	for _, word := range wholeWords(f) {
		if _, dropped := b.overlay.Drop[key(word)]; !dropped {
			b.claim(c, word)
		}
	}
	return nil
}

// wholeWords returns the words in the instances of which a token is only a part.
func wholeWords(f found) []string {
	var out []string
	for _, t := range f.tokens {
		if letters(t) < 4 {
			continue
		}
		for _, instance := range f.instances {
			lower := strings.ToLower(instance)
			at := strings.Index(lower, strings.ToLower(t))
			if at < 0 || len(lower) != len(instance) {
				continue
			}
			start, end := at, at+len(t)
			if isWord(t[0]) {
				for start > 0 && isWord(instance[start-1]) {
					start--
				}
			}
			if isWord(t[len(t)-1]) {
				for end < len(instance) && isWord(instance[end]) {
					end++
				}
			}
			word := instance[start:end]
			if word != instance[at:at+len(t)] && len(word) <= 40 && strings.TrimRight(word, "0123456789") == word && isASCII(word) {
				out = append(out, word)
			}
		}
	}
	return out
}

func (b *builder) addAIRobots(text []byte) error {
	type agent struct{ Operator, Respect, Function string }
	var agents map[string]agent
	if err := json.Unmarshal(text, &agents); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(agents)) {
		a := agents[name]
		f := found{tokens: []string{name}, operator: operatorName(a.Operator), purpose: purposeOfFunction(a.Function)}
		switch respect := strings.TrimLeft(a.Respect, "["); {
		case strings.HasPrefix(respect, "Yes"):
			f.robots = "yes"
		case respect == "No", strings.HasPrefix(respect, "No]"):
			f.robots = "no"
		}
		if err := b.merge(f); err != nil {
			return err
		}
	}
	return nil
}

// purposeOfFunction translates what ai.robots.txt says an agent is for; what it
// says of only one agent is in overrides.yaml.
func purposeOfFunction(function string) defense.Purpose {
	switch function {
	case "AI Assistants", "AI Agents", "AI Coding Agents":
		return defense.PurposeUserAI
	case "AI Search Crawlers", "Search result generation.", "Collects data for AI search":
		return defense.PurposeAISearch
	case "AI Data Scrapers", "LLM training.", "AI model training.", "Scrapes data for use in training LLMs.",
		"Content is used to train open language models.", "Training language models":
		return defense.PurposeAITraining
	case "AI Data Providers":
		return defense.PurposeScraper
	}
	return defense.PurposeOther
}

func (b *builder) addArcjet(text []byte) error {
	var bots []struct {
		Categories []string
		Pattern    struct{ Accepted []string }
		URL        string
		Verify     []struct{ Type string } `json:"verification"`
		Instances  struct{ Accepted []string }
	}
	if err := json.Unmarshal(text, &bots); err != nil {
		return err
	}
	for _, bot := range bots {
		f := found{url: bot.URL, instances: bot.Instances.Accepted, purpose: defense.PurposeOther}
		for _, p := range bot.Pattern.Accepted {
			f.tokens = append(f.tokens, literals(p)...)
		}
		for _, category := range []struct {
			name    string
			purpose defense.Purpose
		}{
			{"feedfetcher", defense.PurposeFeed}, {"preview", defense.PurposePreview}, {"archive", defense.PurposeArchiver},
			{"advertising", defense.PurposeAdvertising}, {"search-engine", defense.PurposeSearch}, {"monitor", defense.PurposeMonitor},
			{"academic", defense.PurposeAcademic}, {"optimizer", defense.PurposeSEO}, {"programmatic", defense.PurposeTool},
		} {
			// "ai" beside it says too little about what the text is used for.
			if slices.Contains(bot.Categories, category.name) && !slices.Contains(bot.Categories, "ai") {
				f.purpose = category.purpose
				break
			}
		}
		for _, v := range bot.Verify {
			how := "range"
			if v.Type == "dns" {
				how = "dns"
			}
			if !slices.Contains(f.provable, how) {
				f.provable = append(f.provable, how)
			}
		}
		// "unknown" and "tool" leave the purpose to the last list.
		if f.purpose == defense.PurposeOther && len(f.tokens) > 0 && b.owner[key(f.tokens[0])] == nil {
			continue
		}
		if err := b.merge(f); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) addMonperrus(text []byte) error {
	var bots []struct {
		Pattern, URL, Description string
		Instances, Tags           []string
	}
	if err := json.Unmarshal(text, &bots); err != nil {
		return err
	}
	for _, bot := range bots {
		f := found{tokens: literals(bot.Pattern), instances: bot.Instances, url: bot.URL, purpose: purposeOfTags(bot.Tags, bot.Description)}
		if err := b.merge(f); err != nil {
			return err
		}
	}
	return nil
}

// The list's tags are generous: "seo" and "monitoring" also mean "anything else".
// Such a tag counts when the description agrees.
var agrees = map[string]struct {
	purpose     defense.Purpose
	description *regexp.Regexp
}{
	"search-engine":      {defense.PurposeSearch, regexp.MustCompile(`(?i)search|index`)},
	"monitoring":         {defense.PurposeMonitor, regexp.MustCompile(`(?i)uptime|monitor|performance|availab|validat|check|health|audit`)},
	"scanner":            {defense.PurposeSecurity, regexp.MustCompile(`(?i)secur|scan|vulnerab|threat|certificate|malware|virus|ssl|tls|discovery`)},
	"advertising":        {defense.PurposeAdvertising, regexp.MustCompile(`(?i)\bads?\b|advert|marketing|semantic|brand|affiliate|contextual|commerce`)},
	"social-preview":     {defense.PurposePreview, regexp.MustCompile(`(?i)preview|link|social|sharing|share|image|unfurl|embed|metadata`)},
	"feed-reader":        {defense.PurposeFeed, regexp.MustCompile(`(?i)feed|rss|podcast|reader`)},
	"http-library":       {defense.PurposeTool, regexp.MustCompile(``)},
	"archiver":           {defense.PurposeArchiver, regexp.MustCompile(``)},
	"academic":           {defense.PurposeAcademic, regexp.MustCompile(``)},
	"browser-automation": {defense.PurposeBrowserAgent, regexp.MustCompile(``)},
	"seo":                {defense.PurposeSEO, regexp.MustCompile(`(?i)\bseo|backlink|link (analysis|research|tracking|building)|keyword|ranking|marketing`)},
}

func purposeOfTags(tags []string, description string) defense.Purpose {
	if len(tags) != 1 {
		return defense.PurposeOther // two purposes, or none
	}
	if a, ok := agrees[tags[0]]; ok && a.description.MatchString(description) {
		return a.purpose
	}
	return defense.PurposeOther // "ai-crawler" among them: for what is not said
}

// literals returns the texts that a pattern stands for, or nil when that is not a
// handful of fixed texts. Anchors are left out.
func literals(pattern string) []string {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil
	}
	texts, ok := expand(re.Simplify())
	if !ok {
		return nil
	}
	var out []string
	for _, t := range texts {
		t = strings.TrimSpace(t)
		if t != "" && isASCII(t) && !slices.ContainsFunc(out, func(o string) bool { return strings.EqualFold(o, t) }) {
			out = append(out, t)
		}
	}
	return out
}

// maxExpansion bounds the texts that one pattern may stand for.
const maxExpansion = 16

func expand(re *syntax.Regexp) (texts []string, ok bool) {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine:
		return []string{""}, true
	case syntax.OpLiteral:
		return []string{string(re.Rune)}, true
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if texts = append(texts, string(r)); len(texts) > 2 {
					return nil, false
				}
			}
		}
		return texts, true
	case syntax.OpCapture:
		return expand(re.Sub[0])
	case syntax.OpQuest:
		texts, ok = expand(re.Sub[0])
		return append(texts, ""), ok
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			t, ok := expand(sub)
			if !ok {
				return nil, false
			}
			texts = append(texts, t...)
		}
		return texts, len(texts) <= maxExpansion
	case syntax.OpConcat:
		texts = []string{""}
		for _, sub := range re.Sub {
			t, ok := expand(sub)
			if !ok || len(texts)*len(t) > maxExpansion {
				return nil, false
			}
			var next []string
			for _, head := range texts {
				for _, tail := range t {
					next = append(next, head+tail)
				}
			}
			texts = next
		}
		return texts, true
	}
	return nil, false
}

// encode writes the entries sorted by id, one a line.
func (b *builder) encode() ([]byte, error) {
	slices.SortFunc(b.entries, func(x, y *defense.Crawler) int { return cmp.Compare(x.ID, y.ID) })
	var buf bytes.Buffer
	buf.WriteString("[\n")
	for i, c := range b.entries {
		var line bytes.Buffer
		enc := json.NewEncoder(&line)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(c); err != nil {
			return nil, fmt.Errorf("%s: %w", c.ID, err)
		}
		buf.Write(bytes.TrimSpace(line.Bytes()))
		if i < len(b.entries)-1 {
			buf.WriteByte(',')
		}
		buf.WriteByte('\n')
	}
	buf.WriteString("]\n")
	return buf.Bytes(), nil
}

// key is how tokens are compared: without case, spaces around, and the slash before a version.
func key(token string) string {
	return strings.ToLower(strings.TrimRight(strings.TrimSpace(token), "/"))
}

// slug makes an id of a name: lower case letters and digits, one hyphen between words.
func slug(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if r < 0x80 && isWord(byte(r)) {
			b.WriteRune(r)
		} else if s := b.String(); s != "" && !strings.HasSuffix(s, "-") {
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}

var markdownLink = regexp.MustCompile(`^\[([^\]]+)\]`)

// operatorName takes the name out of a source's sentence, or "" when it is not plainly one.
func operatorName(s string) string {
	if m := markdownLink.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	s, _, _ = strings.Cut(s, ",")
	if len(s) > 30 || strings.Contains(s, "://") || strings.Count(s, " ") > 2 || strings.HasPrefix(s, "Un") || strings.HasPrefix(s, "the ") {
		return ""
	}
	return s
}

func isWebAddress(s string) bool {
	return (strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")) && len(s) < 200 && !strings.ContainsAny(s, " \"<>")
}

func isWord(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
}

func letters(s string) (n int) {
	for i := range len(s) {
		if isWord(s[i]) {
			n++
		}
	}
	return n
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
