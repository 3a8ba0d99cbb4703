// Package dotenv fills the secrets of a .env file, as Docker Compose reads it.
package dotenv

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// Generated marks, in the comment above it, a variable that gets a secret of its own.
const Generated = "(generated)"

// MaxFile bounds a file, in bytes.
const MaxFile = 256 << 10

// secretBytes is how much chance is in a secret: 32 hexadecimal characters, which need no quotes anywhere.
const secretBytes = 16

// Fill returns the file with a secret for each blank variable whose comment says (generated), and their names. If have is
// not nil it is the file that exists: its values stay, and variables that only the example has are added
// with their comments. chance is where secrets come from; nil: the system.
func Fill(example, have []byte, chance io.Reader) (file []byte, filled []string, err error) {
	if chance == nil {
		chance = rand.Reader
	}
	values, err := parse(have)
	if err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	begin := example
	if have != nil {
		begin = have
	}
	secret := func() (string, error) {
		b := make([]byte, secretBytes)
		if _, err := io.ReadFull(chance, b); err != nil {
			return "", fmt.Errorf("make a secret: %w", err)
		}
		return hex.EncodeToString(b), nil
	}
	marked := map[string]bool{}
	if err := walk(example, func(_, comment, name, _ string) error {
		if name != "" && strings.Contains(comment, Generated) {
			marked[name] = true
		}
		return nil
	}); err != nil {
		return nil, nil, err
	}
	write := func(line, name, value string) error {
		if name != "" && value == "" && marked[name] {
			s, err := secret()
			if err != nil {
				return err
			}
			filled, line = append(filled, name), name+"="+s
		}
		out.WriteString(line + "\n")
		return nil
	}
	if err := walk(begin, func(line, _, name, value string) error { return write(line, name, value) }); err != nil {
		return nil, nil, err
	}
	if have == nil {
		return out.Bytes(), filled, nil
	}
	// What a newer example has and the file does not.
	err = walk(example, func(line, comment, name, value string) error {
		if _, known := values[name]; name == "" || known {
			return nil
		}
		out.WriteString("\n" + comment)
		return write(line, name, value)
	})
	return out.Bytes(), filled, err
}

// parse reads the variables of a file.
func parse(file []byte) (map[string]string, error) {
	values := map[string]string{}
	err := walk(file, func(_, _, name, value string) error {
		if name != "" {
			values[name] = value
		}
		return nil
	})
	return values, err
}

// walk calls f with each line: the comment lines right above it, and the variable's name and value if it sets one.
func walk(file []byte, f func(line, comment, name, value string) error) error {
	if len(file) > MaxFile {
		return fmt.Errorf("the file is larger than %d KiB", MaxFile>>10)
	}
	lines := bufio.NewScanner(bytes.NewReader(file))
	lines.Buffer(nil, MaxFile)
	comment := ""
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), " \t\r")
		name, value := "", ""
		if text := strings.TrimLeft(line, " \t"); text != "" && text[0] != '#' {
			var ok bool
			if name, value, ok = strings.Cut(text, "="); !ok || !valid(name) {
				return fmt.Errorf("line %d: want NAME=value", n)
			}
		}
		if err := f(line, comment, name, value); err != nil {
			return err
		}
		if strings.HasPrefix(line, "#") {
			comment += line + "\n"
		} else {
			comment = ""
		}
	}
	return lines.Err()
}

// valid tells whether a variable can have the name.
func valid(name string) bool {
	for i, c := range []byte(name) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
