package trap

import (
	"hash"
	"net/http"
)

// Writer is the client's http.ResponseWriter with links added to a page that goes through it. It is for one answer and one goroutine.
type Writer struct {
	traps *Traps
	mac   hash.Hash
	to    http.ResponseWriter
	path  string
	head  bool
	ours  []string // tags of If-None-Match that were unwrapped, as the client sent them
	mode  mode
	plain inserter
	zip   *zipped // while mode is changingZipped
	memo  []byte  // memory for links
	links func() []byte
}

// mode is what is done with an answer's body.
type mode uint8

const (
	undecided mode = iota
	untouched
	changingPlain
	changingZipped
)

// Wrap returns a writer that adds links to the answer to r if that is a page; ok is false if this cannot be, and then nothing was changed.
// The caller knows which requests are people's navigations: links in other HTML, such as fragments that a script asks for, serve nobody.
//
// Wrap changes r's header, before the upstream is asked: Accept-Encoding, so that a page comes in a form that can be read, and If-None-Match,
// which names pages as the upstream knows them. If-Match and If-Range are left alone: they do not match a page with links, which is what
// they are for, because the upstream's bytes are others.
//
// The caller must call Release when it is done, and Close before if the answer is complete:
//
//	page, ok := traps.Wrap(w, r)
//	if ok {
//		defer page.Release()
//		w = page
//	}
//	… the upstream's answer is written to w …
//	if ok && complete {
//		err = page.Close()
//	}
func (t *Traps) Wrap(w http.ResponseWriter, r *http.Request) (page *Writer, ok bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, false
	}
	if v := r.Header["Accept-Encoding"]; len(v) > 0 {
		encoding, ok := acceptable(v)
		if !ok {
			return nil, false
		}
		v[0] = encoding
		r.Header["Accept-Encoding"] = v[:1]
	}
	page = t.writers.Get().(*Writer)
	page.to, page.path, page.head, page.mode, page.ours = w, r.URL.Path, r.Method == http.MethodHead, undecided, page.ours[:0]
	for i, list := range r.Header["If-None-Match"] {
		r.Header["If-None-Match"][i], page.ours = t.unwrapTags(list, page.ours)
	}
	return page, true
}

// Header is the client's header.
func (w *Writer) Header() http.Header { return w.to.Header() }

// Unwrap is for http.ResponseController.
func (w *Writer) Unwrap() http.ResponseWriter { return w.to }

// WriteHeader sends the header. Of a page that gets links it takes away what is no longer true (Content-Length, Accept-Ranges) and marks the
// entity tag; a strong tag of a page that is compressed anew becomes a weak one, because its bytes depend on how the page came.
func (w *Writer) WriteHeader(status int) {
	if w.mode == undecided && status >= 200 {
		w.decide(status, w.to.Header())
	}
	w.to.WriteHeader(status)
}

// decide looks at the upstream's header.
func (w *Writer) decide(status int, h http.Header) {
	w.mode = untouched
	switch status {
	case http.StatusNotModified:
		w.notModified(h)
		return
	case http.StatusOK, http.StatusNonAuthoritativeInfo:
	default:
		return
	}
	c := contentCoding(h)
	if c == unreadable || !changeable(h) {
		return
	}
	if c == gzipped && !w.head && !w.beginZipped() {
		return
	}
	delete(h, "Content-Length")
	delete(h, "Accept-Ranges")
	if tags := h["Etag"]; len(tags) == 1 {
		tags[0] = w.traps.wrapTag(tags[0], c == gzipped)
	}
	if c == identity && !w.head {
		w.mode = changingPlain
		w.plain = inserter{to: w.to, links: w.links}
	}
}

// beginZipped reports whether there is memory for one more compressed page, and takes it.
func (w *Writer) beginZipped() bool {
	if w.traps.zipping.Add(1) > w.traps.maxZips {
		w.traps.zipping.Add(-1)
		return false
	}
	w.mode = changingZipped
	w.zip = w.traps.zips.Get().(*zipped)
	w.zip.begin(w.to, w.links)
	return true
}

// notModified makes the header of a 304 speak of the page that the client has.
func (w *Writer) notModified(h http.Header) {
	tags := h["Etag"]
	if len(tags) != 1 {
		return
	}
	if sent := w.traps.sentTag(tags[0], w.ours); sent != "" {
		tags[0] = sent
		delete(h, "Content-Length")
		delete(h, "Accept-Ranges")
	}
}

// makeLinks makes the page's links; it is w.links, which is bound once because that allocates.
func (w *Writer) makeLinks() []byte {
	w.memo = w.traps.appendLinks(w.memo[:0], w.mac, w.path)
	return w.memo
}

// Write writes a part of the body. Of p all is taken or an error returned; at most a few bytes are held back, or of a compressed page what
// cannot be read without more of it.
func (w *Writer) Write(p []byte) (int, error) {
	if w.mode == undecided {
		w.WriteHeader(http.StatusOK)
	}
	var err error
	switch w.mode {
	case changingPlain:
		err = w.plain.write(p)
	case changingZipped:
		err = w.zip.write(p)
	default:
		return w.to.Write(p)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// FlushError sends the client what was written so far; http.ResponseController.Flush calls it.
func (w *Writer) FlushError() error {
	if w.mode == undecided {
		w.WriteHeader(http.StatusOK)
	}
	if w.mode == changingZipped {
		if err := w.zip.flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.to).Flush()
}

// Close writes what is left of an answer that is complete. The error is that of the client's writer, or says what is wrong with a compressed
// page; its end is then missing, as it was.
func (w *Writer) Close() error {
	switch w.mode {
	case changingPlain:
		return w.plain.end()
	case changingZipped:
		return w.zip.end()
	}
	return nil
}

// Release gives the writer's memory back, whatever became of the answer. Nothing may be called afterwards.
func (w *Writer) Release() {
	if w.zip != nil {
		w.zip.release()
		w.traps.zips.Put(w.zip)
		w.traps.zipping.Add(-1)
	}
	clear(w.ours[:cap(w.ours)])
	w.to, w.path, w.zip, w.plain = nil, "", nil, inserter{}
	w.traps.writers.Put(w)
}
