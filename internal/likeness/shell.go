package likeness

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/html"
)

// flow are the elements in which the content of a page may be.
const flow = " body main article section div td dd li "

// checkShell reports what is wrong with a shell: it must be a page with its slots, without anything that is not allowed, and a parser
// must read exactly what is written.
func checkShell(shell string) error {
	if len(shell) > maxShell {
		return fmt.Errorf("shell: %d bytes; want at most %d", len(shell), maxShell)
	}
	root, err := html.Parse(strings.NewReader(shell))
	if err != nil {
		return fmt.Errorf("shell: %w", err)
	}
	s := sanitizer{}
	s.clean(root)
	if s.changed {
		return errors.New("shell: it has elements, attributes, addresses or texts that are not allowed")
	}
	again, err := render(root)
	if err != nil {
		return fmt.Errorf("shell: %w", err)
	}
	if again != shell {
		return errors.New("shell: it is not written as a parser reads it")
	}
	if !strings.HasPrefix(shell, "<!DOCTYPE html>") || strings.Count(shell, robots) != 1 {
		return fmt.Errorf("shell: want a page of HTML with %s", robots)
	}
	return checkSlots(root, shell)
}

// checkSlots reports slots that are missing, there too often, or where their content may not be.
func checkSlots(root *html.Node, shell string) error {
	var found [len(markers)]int
	all := 0
	for n := range root.Descendants() {
		if n.Type != html.TextNode || !strings.Contains(n.Data, "{{") {
			continue
		}
		for slot, m := range markers {
			if m == "" {
				continue
			}
			c := strings.Count(n.Data, m)
			if c == 0 {
				continue
			}
			if !slotFits(Slot(slot), n.Parent) {
				return fmt.Errorf("shell: %s may not be in element %q", m, n.Parent.Data)
			}
			found[slot] += c
			all += c
		}
	}
	if all != strings.Count(shell, "{{") {
		return errors.New("shell: there is a slot that is not known, or one within a tag")
	}
	if found[SlotTitle] != 1 || found[SlotMain] != 1 || found[SlotWayOut] != 1 || found[SlotHeading] > 1 {
		return fmt.Errorf("shell: want each of %s, %s and %s once and %s at most once", markers[SlotTitle], markers[SlotMain], markers[SlotWayOut], markers[SlotHeading])
	}
	return nil
}

func slotFits(slot Slot, in *html.Node) bool {
	if in.Namespace != "" {
		return false
	}
	switch slot {
	case SlotTitle:
		return in.Data == "title"
	case SlotHeading:
		return in.Data == "h1"
	}
	// Within a link or a button the content's own links would be misplaced.
	for p := in; p != nil; p = p.Parent {
		if p.Data == "a" || p.Data == "button" || p.Data == "p" {
			return false
		}
	}
	return among(flow, in.Data)
}

func render(root *html.Node) (string, error) {
	var b bytes.Buffer
	if err := html.Render(&b, root); err != nil {
		return "", err
	}
	return b.String(), nil
}
