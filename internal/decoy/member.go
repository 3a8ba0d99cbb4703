package decoy

import (
	"fmt"
	"time"
)

// The bombs of an archive unpack to bombFactor times Options.MaxBytes, in lines of bombLine bytes.
const (
	bombFactor = 32
	bombLine   = 64
)

// members plans what is in an archive: a few parts of the data, a table, and what such archives have in front.
func (x *file) members() []member {
	r := x.source(aspectFile, 1)
	parts := between(r, 2, 6)
	index := x.size / int64(between(r, 8, 20))
	left := x.size - index

	var data []member
	for i := range parts {
		// The last part is smaller, as where data was cut into parts of one size.
		size := left / int64(parts)
		if i == parts-1 {
			size = size/4 + int64(below(r, int(size/2)))
		}
		data = append(data, x.dataMember(r, fmt.Sprintf("data/part-%05d.jsonl", i), formatJSONL, aspectPart, uint64(i), size))
	}
	data = append(data, x.dataMember(r, "index.csv", formatCSV, aspectIndex, 0, index))
	if x.d.o.Bombs {
		data = append(data, x.bomb())
	}
	return append([]member{
		x.front("README.md", x.readme(data)),
		x.front("metadata.json", x.metadata(data)),
	}, data...)
}

func (x *file) dataMember(r Source, name string, f format, aspect, i uint64, size int64) member {
	return member{
		path: x.name + "/" + name, size: size, date: x.date.Add(-time.Duration(below(r, 3600)) * time.Second),
		write: func(p *sheet) error { return x.records(p, f, aspect, i, size) },
	}
}

// front is a member whose text is at hand.
func (x *file) front(name string, text []byte) member {
	return member{path: x.name + "/" + name, size: int64(len(text)), date: x.date, write: func(p *sheet) error { return p.add(text) }}
}

// readme is what the archive says of itself, in the words of the maze.
func (x *file) readme(data []member) []byte {
	r := x.source(aspectFront, 0)
	b := append([]byte(nil), "# "...)
	b = x.d.title(b, r)
	b = append(b, "\n\n"...)
	b = x.d.paragraph(b, r, 3, maxText)
	b = append(b, "\n\n## Files\n\n| File | Bytes | SHA-256 |\n| --- | ---: | --- |\n"...)
	for _, m := range data {
		b = fmt.Appendf(b, "| `%s` | %d | `", m.path, m.size)
		b = appendDigits(b, r, 64)
		b = append(b, "` |\n"...)
	}
	b = append(b, "\n## Fields\n\n- `id`, `revision`\n- `created`\n- `title`, `text`\n- `sha256`\n- `contributors`\n- `embedding`\n\n"...)
	b = x.d.paragraph(b, r, 4, maxText)
	b = append(b, "\n\n## Version\n\n"...)
	b = x.date.AppendFormat(b, time.DateOnly)
	b = append(b, ", revision `"...)
	b = append(b, x.hex...)
	b = append(b, "`.\n\n## Contributors\n\n"...)
	b = append(b, x.names...)
	return append(b, ".\n"...)
}

// metadata is the same for machines.
func (x *file) metadata(data []member) []byte {
	r := x.source(aspectFront, 1)
	b := append([]byte(nil), "{\n  \"name\": \""...)
	b = append(b, x.name...)
	b = append(b, "\",\n  \"title\": \""...)
	b = x.d.title(b, r)
	b = append(b, "\",\n  \"created\": \""...)
	b = x.date.AppendFormat(b, time.RFC3339)
	b = append(b, "\",\n  \"revision\": \""...)
	b = append(b, x.hex...)
	b = append(b, "\",\n  \"contributors\": \""...)
	b = append(b, x.names...)
	b = append(b, "\",\n  \"files\": ["...)
	for i, m := range data {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "\n    {\"path\": \"%s\", \"bytes\": %d}", m.path, m.size)
	}
	return append(b, "\n  ]\n}\n"...)
}

// bomb is a member that is one line again and again.
func (x *file) bomb() member {
	size := bombFactor * x.d.o.MaxBytes / bombLine * bombLine
	return member{path: x.name + "/data/archive-00000.csv", size: size, date: x.date, write: func(p *sheet) error {
		line := make([]byte, 0, bombLine)
		for len(line) < bombLine-1 {
			line = append(line, "0,"[len(line)%2])
		}
		line = append(line, '\n')
		for range size / bombLine {
			if err := p.add(line); err != nil {
				return err
			}
		}
		return nil
	}}
}
