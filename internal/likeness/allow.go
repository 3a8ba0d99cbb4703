package likeness

import "strings"

// What a shell may consist of. Whatever is not named here is left out, so that a new element of HTML cannot do harm unforeseen.
const (
	kept = " html head title body link style " +
		"address article aside footer header h1 h2 h3 h4 h5 h6 hgroup main nav section search blockquote dd div dl dt figcaption figure hr li menu ol p pre ul " +
		"a abbr b bdi bdo big br center cite code data del dfn em font i ins kbd mark nobr q rp rt ruby s samp small span strike strong sub sup time tt u var wbr " +
		"caption col colgroup table tbody td tfoot th thead tr button fieldset form input label legend optgroup option select details summary img area map "
	// dropped are left out with all that is in them. Other unknown elements are replaced by a div.
	dropped = " script noscript template iframe object embed applet frame frameset noframes noembed xmp plaintext listing math audio video track canvas base meta " +
		"param slot portal textarea dialog picture source image marquee bgsound basefont keygen isindex datalist output progress meter fencedframe "
	keptSVG = " svg g path circle ellipse rect line polyline polygon "

	// Attributes that are kept with any value, on any element.
	keptAttributes = " class id lang dir title role hidden tabindex width height alt colspan rowspan scope align valign bgcolor border cellpadding cellspacing " +
		"type placeholder for label start reversed datetime media open checked disabled size loading decoding color face "
	keptSVGAttributes = " class id role viewBox d fill stroke stroke-width stroke-linecap stroke-linejoin fill-rule clip-rule opacity cx cy r rx ry x y x1 x2 y1 y2 " +
		"points transform width height focusable "
)

// among reports whether the list, words between spaces, has the word.
func among(list, word string) bool {
	return word != "" && strings.IndexByte(word, ' ') < 0 && strings.Contains(list, " "+word+" ")
}
