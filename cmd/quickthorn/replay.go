package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/quickthorn/quickthorn/internal/accesslog"
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/knowledge"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/proxy"
	"github.com/quickthorn/quickthorn/internal/replay"
)

// maxTop bounds the rows of a report's tables.
const maxTop = 1000

func replayCommand(env *environment) *cobra.Command {
	var source, compare, format, mode, posture, jsonFile, htmlFile string
	var top int
	var quiet bool
	c := &cobra.Command{
		Use:   "replay FILE…",
		Short: "Show what a policy would have done with access logs",
		Long: `Show what a policy would have done with access logs, before it touches a reader.

Files may be compressed (gzip, zstd, bzip2); "-" is standard input. Give logs in the order of
time. The format is found out, or named with --format: one of
  ` + strings.Join(accesslog.Names(), ", ") + `
or the server's own format string, as in nginx's log_format or Apache's LogFormat.`,
		Example: `  quickthorn replay /var/log/nginx/access.log.2.gz /var/log/nginx/access.log.1 --html report.html
  quickthorn replay access.log --policy readers-first --compare my-policy.yaml`,
		Args: command.NeedArgs(1, 0, "an access log, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if top < 1 || top > maxTop {
				return command.Usagef("replay: --top: %d is not between 1 and %d", top, maxTop)
			}
			cfg, err := env.Load()
			if err != nil {
				return err
			}
			profiler, policies, err := knowledge.Judges()
			if err != nil {
				return err
			}
			o := replay.Options{Profiler: profiler, Site: proxy.DefaultSite, Stdin: env.Stdin, Buckets: cfg.Budgets.MaxClients}
			if source == "" {
				source = cfg.Policy.Source
			}
			if o.Policy, err = policy.Load(source, policies); err != nil {
				return err
			}
			if compare != "" {
				if o.Compare, err = policy.Load(compare, policies); err != nil {
					return err
				}
			}
			if o.Mode, err = defense.ParseMode(mode); err != nil {
				return err
			}
			if o.Posture, err = defense.ParsePosture(posture); err != nil {
				return err
			}
			if format != "" {
				if o.Format, err = accesslog.Named(format); err != nil {
					return err
				}
			}
			if f, ok := env.Stderr.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) {
				bar := progress(f)
				o.Progress = bar
				defer fmt.Fprint(f, "\r\x1b[K")
			}
			report, err := replay.Run(cmd.Context(), args, top, o)
			if err != nil {
				return err
			}
			return env.writeReplay(report, jsonFile, htmlFile)
		},
	}
	f := c.Flags()
	f.StringVar(&source, "policy", "", "a preset's name or a policy `file` (default: the configured one)")
	f.StringVar(&compare, "compare", "", "a second policy to compare with, client by client")
	f.StringVar(&format, "format", "", "the log's format (default: found out)")
	f.StringVar(&mode, "mode", "enforce", "certain, enforce, observe or off")
	f.StringVar(&posture, "posture", "calm", "calm, guarded or siege")
	f.StringVar(&jsonFile, "json", "", "write the report as JSON to this `file` (- for standard output, in place of the text)")
	f.StringVar(&htmlFile, "html", "", "write the report as one self-contained page to this `file` (- as above)")
	f.IntVar(&top, "top", 15, "rows of each table")
	f.BoolVar(&quiet, "quiet", false, "show no progress bar")
	return c
}

// writeReplay writes the text to standard output unless another form goes there.
func (env *environment) writeReplay(r *replay.Report, jsonFile, htmlFile string) error {
	write := func(name string, form func(io.Writer) error) error {
		if name == "-" {
			return form(env.Stdout)
		}
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		if err := form(f); err != nil {
			f.Close()
			return fmt.Errorf("write %s: %w", name, err)
		}
		return f.Close()
	}
	if jsonFile != "" {
		if err := write(jsonFile, func(w io.Writer) error { return writeJSON(w, r) }); err != nil {
			return err
		}
	}
	if htmlFile != "" {
		if err := write(htmlFile, r.WriteHTML); err != nil {
			return err
		}
	}
	if jsonFile == "-" || htmlFile == "-" {
		return nil
	}
	return r.WriteText(env.Stdout)
}

// progress draws a bar on a terminal, at most ten times a second.
func progress(w io.Writer) func(file string, done, of int64, requests uint64) {
	var last time.Time
	return func(file string, done, of int64, requests uint64) {
		if now := time.Now(); now.Sub(last) < 100*time.Millisecond {
			return
		} else {
			last = now
		}
		bar := ""
		if of > 0 {
			const width = 30
			n := int(min(done, of) * width / of)
			bar = fmt.Sprintf("[%s%s] %3d %%  ", strings.Repeat("=", n), strings.Repeat(" ", width-n), min(done, of)*100/of)
		}
		fmt.Fprintf(w, "\r\x1b[K%s%d requests  %s", bar, requests, accesslog.Printable(file, 60))
	}
}
