package trap

import (
	"mime"
	"net/http"
	"strconv"
)

// RobotsWriter is the client's http.ResponseWriter for /robots.txt: the upstream's file goes through it and comes out as of [Robots]. A site
// without one gets a file that holds the rule alone. What is no such file passes untouched: a redirection, a failure, another media type.
type RobotsWriter struct {
	prefix string
	to     http.ResponseWriter
	head   bool
	status int // of the answer that is being held back; 0: nothing is
	begun  bool
	body   []byte
	whole  bool // the body is larger than what is read of such files: its rest goes through as it comes
}

// WrapRobots returns a writer for the answer to r, which asks for /robots.txt. It changes r's header, before the upstream is asked, so that the
// answer is a whole file that can be read. The caller must call Close when the answer is complete.
func (t *Traps) WrapRobots(w http.ResponseWriter, r *http.Request) *RobotsWriter {
	for _, name := range [...]string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range", "Range"} {
		delete(r.Header, name)
	}
	r.Header.Set("Accept-Encoding", "identity")
	return &RobotsWriter{prefix: t.prefix, to: w, head: r.Method == http.MethodHead}
}

// Header is the client's header.
func (w *RobotsWriter) Header() http.Header { return w.to.Header() }

// Unwrap is for http.ResponseController.
func (w *RobotsWriter) Unwrap() http.ResponseWriter { return w.to }

// WriteHeader sends the header, or keeps it back with a file.
func (w *RobotsWriter) WriteHeader(status int) {
	if w.begun || status < 200 {
		w.to.WriteHeader(status)
		return
	}
	w.begun = true
	h := w.to.Header()
	switch {
	case status == http.StatusNotFound || status == http.StatusGone:
	case status == http.StatusOK && isText(h) && contentCoding(h) == identity:
	default:
		w.to.WriteHeader(status)
		return
	}
	w.status = status
}

// isText reports whether an answer says that it is plain text, or nothing.
func isText(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "text/plain" || h.Get("Content-Type") == ""
}

// Write writes a part of the body.
func (w *RobotsWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.status == http.StatusOK && !w.whole:
		w.body = append(w.body, p...)
		if len(w.body) <= MaxRobots {
			return len(p), nil
		}
		w.whole = true
		w.strip()
		w.to.WriteHeader(w.status)
		if _, err := w.to.Write(Robots(w.body, w.prefix)); err != nil {
			return 0, err
		}
		w.body = nil
		return len(p), nil
	case w.status == http.StatusOK || w.status == 0:
		return w.to.Write(p)
	}
	return len(p), nil // a page that says that there is no such file
}

// FlushError keeps back what is kept back, and sends the rest; http.ResponseController.Flush calls it.
func (w *RobotsWriter) FlushError() error {
	if w.begun && w.status != 0 && !w.whole {
		return nil
	}
	return http.NewResponseController(w.to).Flush()
}

// strip takes away what is not true of the changed file.
func (w *RobotsWriter) strip() {
	h := w.to.Header()
	for _, name := range [...]string{"Content-Length", "Accept-Ranges", "Etag", "Last-Modified", "Content-Encoding"} {
		delete(h, name)
	}
	for _, name := range signatures {
		delete(h, name)
	}
}

// Close sends the file, when the upstream's answer is complete.
func (w *RobotsWriter) Close() error {
	if w.status == 0 || w.whole {
		return nil
	}
	h := w.to.Header()
	length := h.Get("Content-Length")
	w.strip()
	if w.status != http.StatusOK {
		w.body = nil
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Del("Set-Cookie") // of the page that says that there is none
	}
	if w.head && w.status == http.StatusOK && length != "0" {
		w.to.WriteHeader(http.StatusOK) // how long the file would be is not known
		return nil
	}
	body := Robots(w.body, w.prefix)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.to.WriteHeader(http.StatusOK)
	if w.head {
		return nil
	}
	_, err := w.to.Write(body)
	return err
}
