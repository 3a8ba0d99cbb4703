package maze

// style writes the skin's style sheet, whatever its name.
func (w *writer) style() string {
	w.s(w.m.skin.css)
	return "text/css; charset=utf-8"
}

// script writes one that does nothing of consequence: it notes that scripts run, and opens the part of a page that the address names.
func (w *writer) script() string {
	a, b := w.noun(), w.noun()
	w.s("(function () {\n  \"use strict\";\n  var ", a, " = document.documentElement;\n  ", a, ".classList.add(\"js-", b, "\");\n",
		"  window.addEventListener(\"hashchange\", function () {\n    var target = document.getElementById(location.hash.slice(1));\n",
		"    if (target) { target.setAttribute(\"data-", b, "\", \"open\"); }\n  });\n})();\n")
	return "text/javascript; charset=utf-8"
}
