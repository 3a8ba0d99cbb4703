package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/atomicfile"
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decoy"
	"github.com/quickthorn/quickthorn/internal/likeness"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/prose"
	"github.com/quickthorn/quickthorn/internal/run"
	"github.com/quickthorn/quickthorn/internal/tarpit"
)

func tarpitCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use: "tarpit", Short: "The maze for scrapers as a service; with show, on and off: what it costs whom, and its switch", Args: command.NoArgs,
		Long: `The maze for scrapers, as a service behind edges (tarpit.url there) and behind other web servers (tarpit.fronts here). quickthorn run has
it within. It listens on tarpit.listen (:8001), health, metrics and the report are on private.listen.`,
		Example: "  quickthorn tarpit --set tarpit.fronts=127.0.0.1/32\n  quickthorn tarpit show\n  quickthorn tarpit off",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return command.Serve(cmd.Context(), env.Environment, nil, run.OpenTarpit)
		},
	}
	var clients int
	var asJSON bool
	show := &cobra.Command{
		Use: "show", Short: "Show who is in the tarpit, what it cost them, and what it cost us", Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return env.showTarpit(cmd.Context(), clients, asJSON) },
	}
	show.Flags().IntVar(&clients, "clients", 10, "how many clients, those that were held longest first")
	show.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.AddCommand(show)
	for _, on := range []bool{true, false} {
		name, short := "on", "Take clients in again"
		if !on {
			name, short = "off", "Let go at once whoever is held, and take nobody in; edges then refuse by themselves"
		}
		c.AddCommand(&cobra.Command{
			Use: name, Short: short, Args: command.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return env.switchTarpit(cmd.Context(), on) },
		})
	}
	return c
}

// tarpitClient returns a client of the tarpit that runs on this machine or at --server; nil when none answers.
func (env *environment) tarpitClient(ctx context.Context, cfg *config.Config) (*apiClient, error) {
	key := cfg.Private.Key
	if key == "" {
		var err error
		if key, err = private.ReadKey(cfg.Data.Directory); errors.Is(err, fs.ErrNotExist) && env.server == "" {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
	if env.server != "" {
		return env.serverClient(cfg, key)
	}
	a := newAPIClient(cfg.Private.Listen, key)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var r tarpit.Report
	err := a.call(ctx, http.MethodGet, "/v1/tarpit?clients=0", nil, &r)
	var other *apiError
	switch {
	case err == nil:
		return a, nil
	case errors.As(err, &other) && other.status == http.StatusNotFound:
		return nil, errors.New("the program that runs here has no tarpit (tarpit.enabled is false, or the parts run apart: ask where the service tarpit runs)")
	case errors.As(err, &other):
		return nil, err
	}
	return nil, nil
}

func (env *environment) showTarpit(ctx context.Context, clients int, asJSON bool) error {
	cfg, err := env.Load()
	if err != nil {
		return err
	}
	a, err := env.tarpitClient(ctx, cfg)
	if err != nil {
		return err
	}
	if a == nil {
		return errors.New("no tarpit runs here: what it costs is known while it runs")
	}
	var r tarpit.Report
	if err := a.call(ctx, http.MethodGet, fmt.Sprintf("/v1/tarpit?clients=%d", clients), nil, &r); err != nil {
		return err
	}
	if asJSON {
		return writeJSON(env.Stdout, &r)
	}
	return writeTarpit(env.Stdout, &r)
}

func writeTarpit(out io.Writer, r *tarpit.Report) error {
	state := "on"
	switch {
	case !r.On:
		state = "off"
	case r.Pressed:
		state = "on, but the machine is needed for readers: nobody is let in"
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "tarpit\t%s, counted since %s\n", state, r.Since.Local().Format("2006-01-02 15:04"))
	fmt.Fprintf(t, "held now\t%d of at most %d, %d by a page that never ends\n", r.Now.Connections, r.Now.Limit, r.Now.Streams)
	fmt.Fprintf(t, "what it cost them\t%s, %s, %d pages (%d that never end, %d archives), down to depth %d\n",
		seconds(r.Them.Seconds), bytesOf(r.Them.Bytes), r.Them.Pages, r.Them.Streams, r.Them.Archives, r.Them.Depth)
	fmt.Fprintf(t, "what it cost us\t%s of a processor, %s\n", seconds(r.Us.CPUSeconds), bytesOf(r.Us.Bytes))
	shed := ""
	for _, name := range []string{"off", "pressure", "connections", "cpu", "bandwidth", "daily", "hops"} {
		if n := r.Shed[name]; n > 0 {
			shed += fmt.Sprintf(", %s %d", name, n)
		}
	}
	if shed != "" {
		fmt.Fprintf(t, "not taken in\t%s\n", shed[2:])
	}
	if len(r.Clients) > 0 {
		fmt.Fprintln(t, "\nCLIENT\tHELD\tBYTES\tPAGES\tDEPTH\tOUR CPU\tLAST")
	}
	for _, c := range r.Clients {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", cmp.Or(c.Client, "(no address)"), seconds(c.Seconds), bytesOf(c.Bytes), c.Pages, c.Depth, seconds(c.CPUSeconds), c.Last.Local().Format("15:04:05"))
	}
	return t.Flush()
}

// seconds writes a duration with three digits.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d >= time.Hour:
		return fmt.Sprintf("%.1f h", d.Hours())
	case d >= time.Minute:
		return fmt.Sprintf("%.1f min", d.Minutes())
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", s)
	}
	return fmt.Sprintf("%.1f ms", s*1000)
}

func bytesOf(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

func (env *environment) switchTarpit(ctx context.Context, on bool) error {
	cfg, err := env.Load()
	if err != nil {
		return err
	}
	a, err := env.tarpitClient(ctx, cfg)
	if err != nil {
		return err
	}
	said := map[bool]string{true: "on", false: "off"}[on]
	if a == nil {
		db, _, err := env.offline(ctx, cfg)
		if err != nil {
			return err
		}
		if err := errors.Join(tarpit.Store(ctx, db.Settings(), on), db.Close()); err != nil {
			return err
		}
		_, err = fmt.Fprintf(env.Stdout, "tarpit %s, from the next start (nothing runs now)\n", said)
		return err
	}
	var p tarpit.Position
	if err := a.call(ctx, http.MethodPut, "/v1/tarpit", tarpit.Position{On: on}, &p); err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "tarpit %s, now\n", said)
	return err
}

func corpusCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{Use: "corpus", Short: "Train what the tarpit says on texts of your own"})
	out, language, source, licence := "corpus.qtm", "", "", ""
	order, store := 3, false
	train := &cobra.Command{
		Use: "train FILE…", Short: "Train a model of words on plain texts in UTF-8, in any script", Args: command.NeedArgs(1, 0, "one text file at least"),
		Long: `Train a model of words on plain texts in UTF-8, in any script. The tarpit makes its text from the model that tarpit.corpus names: sentences
like those of the texts, in which nothing is meant. What it says is published: take texts whose licence allows that, best your own.
With --store the model goes to the archive of what runs, and every tarpit takes it from there within some seconds.`,
		Example: "  quickthorn corpus train --language de --licence 'CC BY-SA 4.0' --out corpus.qtm articles/*.txt\n  quickthorn run --set tarpit.corpus=corpus.qtm\n  quickthorn corpus train --store articles/*.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			if store && cmd.Flags().Changed("out") {
				return command.Usagef("corpus train: --store or --out, not both")
			}
			if language != "" && !likeness.ValidLanguage(language) {
				return command.Usagef("corpus train: --language %q: want a code such as en or pt-BR", language)
			}
			b, err := run.TrainCorpus(cmd.Context(), args, prose.Text{Source: source, Licence: licence}, prose.Options{Language: language, Order: order})
			if err != nil {
				return err
			}
			m, err := prose.Parse(b)
			if err != nil {
				return err
			}
			size := fmt.Sprintf("%d words and marks, %d different ones, %s", m.Tokens(), m.Words(), bytesOf(int64(len(b))))
			if store {
				lib, err := env.library(cmd.Context())
				if err != nil {
					return err
				}
				a, err := run.StoreCorpus(cmd.Context(), lib, fmt.Sprintf("%d texts, licence %s", len(args), cmp.Or(licence, "not told")), b)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(env.Stdout, "version %d: %s\n", a.Version, size)
				return err
			}
			// A tarpit may have the old one mapped into its memory: it must not be changed under it.
			if err := atomicfile.Replace(out, func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "%s: %s\n", out, size)
			return err
		},
	}
	train.Flags().StringVar(&out, "out", out, "`file` to write")
	train.Flags().BoolVar(&store, "store", false, "keep it in the archive of what runs, instead of a file")
	train.Flags().StringVar(&language, "language", "", "`language` of the texts, as in en or pt-BR")
	train.Flags().StringVar(&source, "source", "", "where the texts are from, for the record")
	train.Flags().StringVar(&licence, "licence", "", "their licence, for the record")
	train.Flags().IntVar(&order, "order", order, "how many `words` the next one depends on, 2 or 3")
	n := 5
	show := &cobra.Command{
		Use: "show [FILE]", Short: "Show what a model was trained on, and some of what it says (default: the one in use)", Args: command.NeedArgs(0, 1, "one model"),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := env.Load()
			if err != nil {
				return err
			}
			if len(args) > 0 {
				cfg.Tarpit.Text, cfg.Tarpit.Corpus = "nonsense", args[0]
			}
			return run.ShowText(env.Stdout, cfg, n)
		},
	}
	show.Flags().IntVar(&n, "sentences", n, "how many sentences")
	list := &cobra.Command{
		Use: "list", Short: "List the versions of the model in the archive of what runs, the newest first: that one is in use", Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lib, err := env.library(cmd.Context())
			if err != nil {
				return err
			}
			all, err := run.StoredCorpora(cmd.Context(), lib)
			if err != nil {
				return err
			}
			t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
			for _, a := range all {
				fmt.Fprintf(t, "%d\t%s\t%s\t%s\n", a.Version, a.At.Local().Format("2006-01-02 15:04"), bytesOf(a.Size), a.Note)
			}
			return t.Flush()
		},
	}
	restore := &cobra.Command{
		Use: "restore VERSION", Short: "Have an older version in the archive used again, as the newest", Args: command.NeedArgs(1, 1, "the number of a version"),
		RunE: func(cmd *cobra.Command, args []string) error {
			version, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || version < 1 {
				return command.Usagef("corpus restore: %q: want a number that corpus list shows", args[0])
			}
			lib, err := env.library(cmd.Context())
			if err != nil {
				return err
			}
			a, err := run.RestoreCorpus(cmd.Context(), lib, version)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "version %d is that of version %d\n", a.Version, version)
			return err
		},
	}
	root.AddCommand(train, show, list, restore)
	return root
}

// library is the archive of the install that runs.
func (env *environment) library(ctx context.Context) (artifact.Library, error) {
	a, err := env.running(ctx)
	if err != nil {
		return nil, err
	}
	return &artifact.Client{Base: a.base, HTTP: a.http, Key: a.key}, nil
}

// maxLooked is how much text canary find looks at.
const maxLooked = decoy.MaxText

func canaryCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{Use: "canary", Short: "Recognise what the tarpit gave away"})
	var file string
	var asJSON bool
	find := &cobra.Command{
		Use: "find [TEXT…]", Short: "Find out whom the tarpit gave a text to, and when, by the marks in it",
		Long: `Find out whom the tarpit gave a text to, and when, by the marks that each client's copy of its archives bears: as hexadecimal digits, and as the
names of people. TEXT is a piece that you found elsewhere, unpacked; "-" reads it from standard input. The secret must be that of the install which
gave it away (tarpit.seed, or the data directory's ` + "tarpit.key" + `).`,
		Example: "  quickthorn canary find 'Compiled by Bemiro Sanola, Kateno Wimifo, …'\n  quickthorn canary find --file dump.jsonl",
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := env.lookedAt(args, file)
			if err != nil {
				return err
			}
			cfg, err := env.Load()
			if err != nil {
				return err
			}
			marks, err := run.FindMarks(cfg, text)
			if err != nil {
				return err
			}
			return writeMarks(env.Stdout, marks, asJSON)
		},
	}
	find.Flags().StringVar(&file, "file", "", "look at this `file`")
	find.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	root.AddCommand(find)
	return root
}

// lookedAt returns the text of arguments, a file or standard input.
func (env *environment) lookedAt(args []string, file string) ([]byte, error) {
	from := env.Stdin
	switch {
	case file != "" && len(args) > 0:
		return nil, command.Usagef("canary find: a text or --file, not both")
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	case len(args) == 0:
		return nil, command.Usagef(`canary find: give a text, "-" for standard input, or --file`)
	case len(args) > 1 || args[0] != "-":
		return []byte(strings.Join(args, " ")), nil
	}
	b, err := io.ReadAll(io.LimitReader(from, maxLooked+1))
	if err == nil && len(b) > maxLooked {
		err = fmt.Errorf("the text is longer than %s: look at it in parts", bytesOf(maxLooked))
	}
	return b, err
}

// found is a mark, for programs.
type found struct {
	Client string    `json:"client"` // an address or an IPv6 /64; "" if it had none
	Time   time.Time `json:"time"`
	Form   string    `json:"form"`
	Offset int       `json:"offset"`
}

func writeMarks(out io.Writer, marks []decoy.Mark, asJSON bool) error {
	list := []found{}
	for _, m := range marks {
		f := found{Time: m.Time.UTC(), Form: m.Form, Offset: m.Offset}
		if m.Prefix.IsValid() {
			if f.Client = m.Prefix.String(); m.Prefix.IsSingleIP() {
				f.Client = m.Prefix.Addr().String()
			}
		}
		list = append(list, f)
	}
	if asJSON {
		return writeJSON(out, list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no mark of this install is in the text")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLIENT\tWAS GIVEN IT\tMARK\tAT BYTE")
	for _, f := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\n", cmp.Or(f.Client, "(no address)"), f.Time.Format("2006-01-02 15:04 MST"), f.Form, f.Offset)
	}
	return t.Flush()
}
