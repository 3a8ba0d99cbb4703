//go:build unix

package alert_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/alert"
)

// command returns a channel that runs a shell script with these arguments. The channel itself uses no shell.
func command(t *testing.T, script string, args ...string) *alert.Command {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := alert.NewCommand(alert.CommandOptions{Name: "program", Program: path, Args: args, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheProgramGetsArgumentsInputAndNoEnvironmentOfOurs(t *testing.T) {
	t.Setenv("QUICKTHORN_SECRET", "do not hand over")
	out := t.TempDir()
	c := command(t, `cat >"$1/input"; env >"$1/env"; printf '%s' "$2" >"$1/arg"; pwd >"$1/dir"`, out, `$(touch /never); "x"`)
	m := message()
	m.Title = "$(reboot) `x` \"quoted\""
	if err := c.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var got alert.Message
	if err := json.Unmarshal([]byte(read("input")), &got); err != nil || got.ID != m.ID || got.Title != m.Title {
		t.Errorf("the input is %+v, %v", got, err)
	}
	if got := read("arg"); got != `$(touch /never); "x"` {
		t.Errorf("the argument is %q", got)
	}
	if got := read("dir"); got != "/\n" {
		t.Errorf("the directory is %q", got)
	}
	env := map[string]string{}
	for l := range strings.Lines(read("env")) {
		name, value, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "=")
		env[name] = value
	}
	for _, name := range []string{"PWD", "_", "SHLVL", "OLDPWD"} { // of the shell's own making
		delete(env, name)
	}
	want := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "ALERT_ID": m.ID, "ALERT_REASON": "alert", "ALERT_SEVERITY": "warning",
		"ALERT_KIND": "campaign", "ALERT_SITE": "shop", "ALERT_TITLE": m.Title, "ALERT_SUBJECT": "warning: shop: " + m.Title, "ALERT_COUNT": "1", "ALERT_LINK": "",
	}
	for name, value := range env {
		if want[name] != value {
			t.Errorf("%s=%q, want %q", name, value, want[name])
		}
	}
	if len(env) != len(want) {
		t.Errorf("the environment is %v", env)
	}
}

func TestTheExitStatusSaysWhetherToTryAgain(t *testing.T) {
	for _, c := range []struct {
		script    string
		permanent bool
		want      string
	}{
		{"echo 'no \033[2J network'; echo really >&2; exit 1", false, "exit status 1: no ?[2J network really"},
		{"exit 63", false, "exit status 63"}, {"exit 64", true, "exit status 64"}, {"exit 75", false, "exit status 75"}, {"exit 78", true, "exit status 78"}, {"exit 79", false, "exit status 79"},
		{"kill -9 $$", false, "signal: killed"},
	} {
		err := command(t, c.script).Send(t.Context(), message())
		var e *alert.SendError
		if !errors.As(err, &e) || e.Permanent != c.permanent || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %v", c.script, err)
		}
	}
}

func TestAProgramThatTalksWithoutEndIsNotHeldUpAndNotKept(t *testing.T) {
	err := command(t, "head -c 5000000 /dev/zero | tr '\\0' x; exit 1").Send(t.Context(), message())
	if err == nil || !strings.Contains(err.Error(), "exit status 1: xxx") || len(err.Error()) > 1000 {
		t.Errorf("the error is %.100q", err)
	}
}

func TestAProgramThatReadsNothingHasDoneItsWork(t *testing.T) {
	m := message()
	m.Items[0].Text = strings.Repeat("x", 1<<20) // more than a pipe holds
	if err := command(t, "exit 0").Send(t.Context(), m); err != nil {
		t.Error(err)
	}
}

func TestAProgramThatIsNotDoneInTimeIsKilledWithItsChildren(t *testing.T) {
	for say, script := range map[string]string{
		"it waits for its child":    `sleep 1000 & echo $! >"$1/child"; wait`,
		"its child outlives it":     `sleep 1000 & echo $! >"$1/child"; exit 0`,
		"its child outlives, fails": `sleep 1000 & echo $! >"$1/child"; exit 3`,
	} {
		t.Run(say, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := command(t, script, dir)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			child := make(chan int, 1)
			go func() {
				defer close(child)
				for ctx.Err() == nil {
					b, err := os.ReadFile(filepath.Join(dir, "child"))
					if pid, e := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && e == nil {
						child <- pid
						if strings.HasPrefix(say, "it waits") {
							cancel()
						}
						return
					}
					time.Sleep(time.Millisecond)
				}
			}()
			err := c.Send(ctx, message())
			pid, ok := <-child
			if !ok {
				t.Fatalf("the program did not begin: %v", err)
			}
			switch say {
			case "it waits for its child":
				if err == nil || !strings.Contains(err.Error(), "not done in time") {
					t.Errorf("the error is %v", err)
				}
			case "its child outlives it":
				if err != nil {
					t.Error(err)
				}
			default:
				if err == nil || !strings.Contains(err.Error(), "exit status 3") {
					t.Errorf("the error is %v", err)
				}
			}
			for range 1000 { // the kernel takes a moment; a zombie that nobody has waited for counts as gone
				if !alive(pid) {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("the child %d lives on", pid)
		})
	}
}

func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func TestWrongCommandsAreRefused(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for program, want := range map[string]string{"notify": "not an absolute path", "/nonexistent/notify": "cannot be run", plain: "cannot be run", "": "not an absolute path"} {
		if _, err := alert.NewCommand(alert.CommandOptions{Name: "program", Program: program}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", program, err)
		}
	}
}
