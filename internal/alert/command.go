package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Bounds of a command.
const (
	maxOutput = 4 << 10 // bytes of its output that are kept
	// outputWait is how long the output may stay open, by a child of the program, after the program has ended.
	outputWait = 2 * time.Second
)

// defaultPath is the PATH of commands.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// CommandOptions are the settings of a command. Name and Program are required.
type CommandOptions struct {
	Name    string
	Program string        // absolute path; no shell has a part in this
	Args    []string      // handed over as they are
	Timeout time.Duration // 0: 10 s
	Path    string        // PATH of the program; "": the usual directories
}

// Command is a [Channel] that runs a program of the owner's, once for each message and attempt.
//
// It reads the [Message] as JSON on its standard input. Its environment consists of PATH and ALERT_ID, ALERT_REASON, ALERT_SEVERITY,
// ALERT_KIND, ALERT_SITE, ALERT_TITLE, ALERT_SUBJECT, ALERT_COUNT and ALERT_LINK; titles may hold what strangers
// wrote, without control characters: quote them.
//
// Exit status 0 means sent; 64 to 78 but for 75 (sysexits.h: usage, data, configuration, …) that it makes no sense to
// try again; any other that it does. A program that runs for longer than the time limit is killed, with those that it has started. The
// beginning of what it writes to its standard output and error is part of the error when it fails.
type Command struct{ o CommandOptions }

// NewCommand returns a command, or an error that names the setting which is wrong.
func NewCommand(o CommandOptions) (*Command, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(o.Program) {
		return nil, fmt.Errorf("alert channel %q: the program %q is not an absolute path", o.Name, o.Program)
	}
	if _, err := exec.LookPath(o.Program); err != nil {
		return nil, fmt.Errorf("alert channel %q: the program cannot be run: %w", o.Name, err)
	}
	setDefault(&o.Timeout, 10*time.Second)
	if o.Path == "" {
		o.Path = defaultPath
	}
	return &Command{o}, nil
}

// Name implements [Channel].
func (c *Command) Name() string { return c.o.Name }

// Send implements [Channel].
func (c *Command) Send(ctx context.Context, m *Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return permanent("write the message: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	var out output
	cmd := exec.CommandContext(ctx, c.o.Program, c.o.Args...)
	cmd.Env = append([]string{"PATH=" + c.o.Path}, environment(m)...)
	cmd.Dir = string(os.PathSeparator)
	cmd.Stdin = bytes.NewReader(body)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = outputWait
	alone(cmd)
	err = cmd.Run()
	if err == nil {
		return nil
	}
	killGroup(cmd) // children that the program has left behind, should it have ended by itself
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it did its work, but for such a child that kept the output open
	}
	var exit *exec.ExitError
	e := &SendError{Err: fmt.Errorf("run %s: %w", c.o.Program, err)}
	switch {
	case ctx.Err() != nil:
		e.Err = fmt.Errorf("run %s: killed, since it was not done in time", c.o.Program)
	case errors.As(err, &exit):
		code := exit.ExitCode()
		e.Permanent = code >= 64 && code <= 78 && code != 75
	}
	if words := out.text(); words != "" {
		e.Err = fmt.Errorf("%w: %s", e.Err, words)
	}
	e.Err = redacted(e.Err, nil)
	return e
}

func environment(m *Message) []string {
	return []string{
		"ALERT_ID=" + m.ID, "ALERT_REASON=" + string(m.Reason), "ALERT_SEVERITY=" + m.Severity.String(), "ALERT_KIND=" + m.Kind,
		"ALERT_SITE=" + m.Site, "ALERT_TITLE=" + m.Title, "ALERT_SUBJECT=" + m.Subject(), "ALERT_COUNT=" + strconv.Itoa(m.Count),
		"ALERT_LINK=" + m.Items[0].Link,
	}
}

// output keeps the beginning of what is written and lets the rest go, so that the program is never held up.
type output struct {
	mu   sync.Mutex
	kept []byte
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, p[:min(len(p), maxOutput-len(o.kept))]...)
	return len(p), nil
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return line(string(o.kept), 400)
}
