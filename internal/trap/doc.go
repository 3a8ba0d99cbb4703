// Package trap puts links into the site's own pages that no reader sees, and says in robots.txt that nobody is to follow them. Who asks
// for one has ignored both: [Traps.Hit].
//
// [Traps.Wrap] stands between the upstream's answer and the client and adds one to three links to HTML that passes through, as it
// streams, in bounded memory. What it is not sure about passes untouched: another charset, a coding it does not undo, an answer that is
// signed or must not be transformed, a piece of HTML that is no document.
//
// Links are a function of the secret seed and of the page's path alone: every replica adds the same, and caches may keep the page.
//
// They are hidden from browsers and from assistive technology by attributes, which work under any Content-Security-Policy. A browser without
// styles, such as Lynx, shows them: somebody who follows one is a person with a good excuse, so a hit should never be the only reason to
// lock a client out.
package trap
