package prose

import "strconv"

// Facts makes sentences that look like facts and are none: what is said of one river is another's. They are about things only: never about
// people, health, law or safety, where a wrong word could do harm.
type Facts struct{}

// fact is a kind of sentence: %s stands for one of things, %o for another, %n for a number up to most, %y for a year.
type fact struct {
	form   string
	things []string
	most   int
}

// The names are made up, as are the facts.
var (
	rivers   = []string{"the Aldery", "the Brenn", "the Corvey", "the Dunmere", "the Esk Water", "the Falder", "the Grell", "the Hathe", "the Ivelle", "the Lower Kenn", "the Morwyn", "the Nethe", "the Orrin Brook", "the Pell", "the Rusk", "the Senner", "the Tarrow", "the Ulde", "the Wicker", "the Yarde"}
	hills    = []string{"Ashen Fell", "Bramber Top", "Cold Hill", "Dray Pike", "Elder Ridge", "Fallow Edge", "Great Merle", "Harrow Down", "Knott Moor", "Lantern Hill", "Mossy Law", "North Tor", "Old Heddle", "Pike o' Wren", "Quarry Bank", "Raven Brow", "Stone Beacon", "Thorn Rigg", "Upper Cairn", "White Scar"}
	minerals = []string{"alderite", "brennite", "corvane", "dunmerite", "eskalite", "falderspar", "grellite", "hathestone", "ivelline", "kennite", "morwynite", "netherite blende", "orrinite", "pellite", "ruskite", "sennerite", "tarrow spar", "uldite", "wickerite", "yardeite"}
	clocks   = []string{"the harbour clock", "the mill wheel", "the long pendulum", "the tide gauge", "the brass orrery", "the bell frame", "the water organ", "the wind pump", "the rope walk", "the signal lamp", "the hand press", "the grain scale", "the star globe", "the slide rule", "the weather vane", "the canal lock"}
	plants   = []string{"marsh thorn", "silver sedge", "dwarf elder", "hedge vetch", "stone bramble", "grey willow", "water clover", "field scabious", "wood rush", "bog asphodel", "moor grass", "wild teasel", "sand catchfly", "crested fern", "winter cress", "blue moor lily"}
	makers   = []string{"Aldery Works", "the Brenn Foundry", "Corvey and Sons", "the Dunmere Society", "the Falder Company", "the Grell Manufactory", "the Hathe Guild", "the Morwyn Institute", "the Nethe Survey", "the Senner Club", "the Tarrow Trust", "the Wicker Union"}

	facts = []fact{
		{"%S is %n kilometres long and flows into %o.", rivers, 900},
		{"In %y the level of %s rose by %n centimetres within a week.", rivers, 400},
		{"%S carries %n cubic metres of water a second on an average day, more than %o.", rivers, 3000},
		{"The oldest bridge over %s has %n arches and was finished in %y.", rivers, 24},
		{"The spring of %s lies %n metres above the mouth of %o.", rivers, 2400},
		{"%S is %n metres high, which makes it lower than %o.", hills, 3200},
		{"From %s one can see as far as %o, %n kilometres away.", hills, 180},
		{"The first survey of %s, in %y, found it %n metres lower than it is.", hills, 90},
		{"Snow lies on %s for %n days a year, and for fewer on %o.", hills, 240},
		{"The melting point of %s is %n degrees above that of %o.", minerals, 700},
		{"%S was first described in %y, in a sample that weighed %n grams.", minerals, 900},
		{"A cubic centimetre of %s weighs as much as %n of %o.", minerals, 9},
		{"%S is found at %n places, at half of them together with %o.", minerals, 140},
		{"%S turns %n times an hour and has stood still twice since %y.", clocks, 90},
		{"%S was built in %y of %n parts, some of them taken from %o.", clocks, 2600},
		{"The repair of %s in %y took %n days.", clocks, 300},
		{"%S flowers for %n days, and after %o.", plants, 60},
		{"%S grows up to %n centimetres high, on the same soil as %o.", plants, 220},
		{"A field of %s counted in %y had %n plants to the square metre.", plants, 80},
		{"%S employed %n people in %y.", makers, 1900},
		{"In %y %s bought %n machines from %o.", makers, 60},
		{"The archive of %s holds %n drawings, the oldest of %y.", makers, 40000},
	}
	headings = []string{"The course of %s", "%S and %o", "Notes on %s", "%S: measurements", "A short account of %s", "%S since %y", "Sources on %s"}
)

// AppendSentence appends one or, where many words are wanted, two sentences.
func (Facts) AppendSentence(dst []byte, r Source, words int) []byte {
	dst = appendFact(dst, r, &facts[below(r, len(facts))])
	if words > 18 {
		dst = append(dst, ' ')
		dst = appendFact(dst, r, &facts[below(r, len(facts))])
	}
	return dst
}

// AppendTitle appends a heading.
func (Facts) AppendTitle(dst []byte, r Source, words int) []byte {
	f := facts[below(r, len(facts))]
	f.form = headings[below(r, len(headings))]
	if words <= 3 {
		f.form = "%S"
	}
	return appendFact(dst, r, &f)
}

func appendFact(dst []byte, r Source, f *fact) []byte {
	one := below(r, len(f.things))
	other := (one + 1 + below(r, len(f.things)-1)) % len(f.things)
	for i := 0; i < len(f.form); i++ {
		if f.form[i] != '%' {
			dst = append(dst, f.form[i])
			continue
		}
		i++
		switch f.form[i] {
		case 's':
			dst = append(dst, f.things[one]...)
		case 'S':
			at := len(dst)
			dst = append(dst, f.things[one]...)
			if c := dst[at]; c >= 'a' && c <= 'z' {
				dst[at] = c - 'a' + 'A'
			}
		case 'o':
			dst = append(dst, f.things[other]...)
		case 'n':
			dst = strconv.AppendInt(dst, int64(2+below(r, f.most-1)), 10)
		case 'y':
			dst = strconv.AppendInt(dst, int64(1690+below(r, 330)), 10)
		}
	}
	return dst
}
