package trap

import "strings"

// maxTags bounds the entity tags of a request that are looked at; more than that are left as they are.
const maxTags = 32

// splitTag takes an entity tag (RFC 9110 section 8.8.3) apart. ok is false if it is malformed.
func splitTag(tag string) (weak bool, opaque string, ok bool) {
	opaque, weak = strings.CutPrefix(tag, "W/")
	if len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' {
		return false, "", false
	}
	opaque = opaque[1 : len(opaque)-1]
	for i := range len(opaque) {
		if !tagByte(opaque[i]) {
			return false, "", false
		}
	}
	return weak, opaque, true
}

func tagByte(c byte) bool { return c == 0x21 || c >= 0x23 && c != 0x7f }

// wrapTag returns the tag of a page with links whose tag without was tag. A malformed one stays.
func (t *Traps) wrapTag(tag string, weak bool) string {
	already, opaque, ok := splitTag(tag)
	switch {
	case !ok:
		return tag
	case weak || already:
		return `W/"` + opaque + t.suffix + `"`
	}
	return `"` + opaque + t.suffix + `"`
}

// unwrapTags returns an If-None-Match list with the tags that are ours as the upstream knows them, and appends these as they were sent to
// ours. A list that is malformed, "*", or has none of ours stays.
func (t *Traps) unwrapTags(list string, ours []string) (string, []string) {
	if !strings.Contains(list, t.suffix+`"`) {
		return list, ours
	}
	var out strings.Builder
	before := len(ours)
	for n, rest := 0, list; ; n++ {
		rest = strings.TrimLeft(rest, " \t,")
		if rest == "" {
			return out.String(), ours
		}
		start := strings.IndexByte(rest, '"')
		end := -1
		if start >= 0 {
			end = strings.IndexByte(rest[start+1:], '"')
		}
		if end < 0 || n == maxTags {
			return list, ours[:before]
		}
		tag := rest[:start+end+2]
		if rest = strings.TrimLeft(rest[len(tag):], " \t"); rest != "" && rest[0] != ',' {
			return list, ours[:before]
		}
		weak, opaque, ok := splitTag(tag)
		if !ok {
			return list, ours[:before]
		}
		if n > 0 {
			out.WriteString(", ")
		}
		if bare, is := strings.CutSuffix(opaque, t.suffix); is {
			ours = append(ours, tag)
			if weak {
				out.WriteString("W/")
			}
			out.WriteString(`"` + bare + `"`)
			continue
		}
		out.WriteString(tag)
	}
}

// sentTag returns the one of a request's tags that is the upstream's tag in our form, "" if none is. It has the form in which the client
// stored it, or the client would not know which page it is told to be fresh.
func (t *Traps) sentTag(tag string, ours []string) string {
	_, opaque, ok := splitTag(tag)
	if !ok {
		return ""
	}
	for _, sent := range ours {
		if _, o, _ := splitTag(sent); len(o) == len(opaque)+len(t.suffix) && strings.HasPrefix(o, opaque) {
			return sent
		}
	}
	return ""
}
