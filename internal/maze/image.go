package maze

import (
	"encoding/binary"
	"hash/adler32"
	"hash/crc32"
)

// image writes a picture of soft colours, as SVG or, whatever else the name says, as PNG, and returns its content type.
func (w *writer) image() string {
	if hasSuffixFold(w.q.Path, ".svg") {
		w.svg()
		return "image/svg+xml"
	}
	w.png()
	return "image/png"
}

// colour writes a colour of the hue, from 0 to 359, as CSS has it.
func (w *writer) colour(hue, saturation, light int) {
	w.s("hsl(")
	w.n(hue % 360)
	w.s(",")
	w.n(saturation)
	w.s("%,")
	w.n(light)
	w.s("%)")
}

func (w *writer) svg() {
	const width, height = 480, 320
	hue := below(&w.r, 360)
	w.s(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 320"><defs><linearGradient id="g" x2="0" y2="1"><stop stop-color="`)
	w.colour(hue, between(&w.r, 25, 60), between(&w.r, 70, 88))
	w.s(`"/><stop offset="1" stop-color="`)
	w.colour(hue+between(&w.r, 10, 70), between(&w.r, 20, 50), between(&w.r, 45, 70))
	w.s(`"/></linearGradient></defs><rect width="480" height="320" fill="url(#g)"/>`)
	if oneIn(&w.r, 2) {
		w.s(`<circle cx="`)
		w.n(below(&w.r, width))
		w.s(`" cy="`)
		w.n(below(&w.r, height/2))
		w.s(`" r="`)
		w.n(between(&w.r, 18, 60))
		w.s(`" fill="#fff" opacity=".6"/>`)
	}
	// Hills, each before and below the last.
	for i := range between(&w.r, 2, 5) {
		top := height*(4+i)/9 + below(&w.r, 24)
		w.s(`<path fill="`)
		w.colour(hue+40+12*i, 28, max(58-11*i, 12))
		w.s(`" d="M0 `)
		w.n(top)
		for x := 80; x <= width; x += 80 {
			w.s("L")
			w.n(x)
			w.s(" ")
			w.n(top + between(&w.r, -34, 34))
		}
		w.s(`V320H0z"/>`)
	}
	w.s("</svg>\n")
}

// Width and height of a PNG, and its bytes before compression: a filter byte before each line.
const (
	pngWidth  = 64
	pngHeight = 48
	pngData   = pngHeight * (pngWidth + 1)
)

// png writes an image with a palette of its own. Its data are stored as they are: to compress three kilobytes takes longer than to send them.
func (w *writer) png() {
	w.s("\x89PNG\r\n\x1a\n")
	begin := w.chunk("IHDR")
	w.b = binary.BigEndian.AppendUint32(w.b, pngWidth)
	w.b = binary.BigEndian.AppendUint32(w.b, pngHeight)
	w.b = append(w.b, 8, 3, 0, 0, 0) // eight bits an index into the palette
	w.endChunk(begin)

	begin = w.chunk("PLTE")
	var from, to [3]int
	for i := range from {
		from[i], to[i] = between(&w.r, 140, 250), between(&w.r, 20, 170)
	}
	for i := range 256 {
		for c := range from {
			w.b = append(w.b, byte((from[c]*(255-i)+to[c]*i)/255))
		}
	}
	w.endChunk(begin)

	begin = w.chunk("IDAT")
	w.b = append(w.b, 0x78, 0x01, 1, pngData&0xff, pngData>>8, ^byte(pngData&0xff), ^byte(pngData>>8)) // one stored block
	raw := len(w.b)
	a, b := between(&w.r, -3, 3), between(&w.r, 1, 5)
	for y := range pngHeight {
		w.b = append(w.b, 0)
		for x := range pngWidth {
			w.b = append(w.b, byte(min(max(a*(x-pngWidth/2)+b*y+(x*y>>5)+below(&w.r, 6), 0), 255)))
		}
	}
	w.b = binary.BigEndian.AppendUint32(w.b, adler32.Checksum(w.b[raw:]))
	w.endChunk(begin)
	w.endChunk(w.chunk("IEND"))
}

// chunk begins a chunk and returns where its length stands.
func (w *writer) chunk(name string) int {
	begin := len(w.b)
	w.s("\x00\x00\x00\x00", name)
	return begin
}

func (w *writer) endChunk(begin int) {
	body := w.b[begin+4:]
	binary.BigEndian.PutUint32(w.b[begin:], uint32(len(body)-4))
	w.b = binary.BigEndian.AppendUint32(w.b, crc32.ChecksumIEEE(body))
}
