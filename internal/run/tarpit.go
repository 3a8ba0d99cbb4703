package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/atomicfile"
	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decoy"
	"github.com/quickthorn/quickthorn/internal/drip"
	"github.com/quickthorn/quickthorn/internal/jobs"
	"github.com/quickthorn/quickthorn/internal/keyfile"
	"github.com/quickthorn/quickthorn/internal/language"
	"github.com/quickthorn/quickthorn/internal/likeness"
	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/openapi"
	"github.com/quickthorn/quickthorn/internal/prose"
	"github.com/quickthorn/quickthorn/internal/proxy"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/tarpit"
	"github.com/quickthorn/quickthorn/internal/trap"
)

// tarpitPart is the tarpit with what belongs to it.
type tarpitPart struct {
	*tarpit.Tarpit
	s    *service.Service
	seed []byte
	text *text
}

// maxAccounts is how many clients the tarpit remembers, in about 300 bytes each.
const maxAccounts = 20000

// openTarpit makes the tarpit. It takes streams once its Run runs.
func openTarpit(s *service.Service, seed []byte, pressed func() bool) (*tarpitPart, error) {
	c := &s.Config.Tarpit
	text, err := openText(s.Config)
	if err != nil {
		return nil, err
	}
	s.OnClose(text.Close)
	p := &tarpitPart{s: s, seed: seed, text: text}
	m, err := p.maze(nil)
	if err != nil {
		return nil, err
	}
	archives, err := openDecoy(s.Config, seed, text)
	if err != nil {
		return nil, err
	}
	if c.Bombs {
		s.Log.Warn("tarpit.decompressionBombs is on: in many countries that is a crime, also against who misbehaves")
	}
	connections := s.Descriptors(c.Connections)
	wheel, err := drip.New(drip.Options{Connections: connections, MinRate: c.MinRate, MaxRate: c.MaxRate, Bandwidth: int64(c.Bandwidth)})
	if err != nil {
		return nil, err
	}
	if p.Tarpit, err = tarpit.New(tarpit.Options{
		Maze: m, Archives: archives, Streams: wheel, Epoch: c.Epoch, Now: time.Now, Pressed: pressed, Drained: s.Drained(), Prepare: text.prepare,
		Limits: tarpit.Limits{
			Connections: connections, Bandwidth: int64(c.Bandwidth), CPU: c.CPU, Daily: int64(c.Daily), Hops: c.Hops, MinDelay: c.MinDelay, MaxDelay: c.MaxDelay,
			StreamMax: c.StreamMax, ArchiveRate: int64(c.ArchiveRate), Clients: maxAccounts,
		},
	}); err != nil {
		return nil, err
	}
	return p, s.Metrics.Registry.Register(tarpit.NewCollector(p.Tarpit))
}

// openTarpit makes the maze within the program, switched as it was last.
func (p *Program) openTarpit(ctx context.Context, needs *proxy.Needs) error {
	seed, err := proxy.TarpitSeed(p.Config)
	if err != nil {
		return err
	}
	if p.tarpit, err = openTarpit(p.Service, seed, func() bool { return p.Pressed() }); err != nil {
		return err
	}
	on, err := tarpit.Stored(ctx, p.slow.state.Settings())
	if err != nil {
		return err
	}
	p.tarpit.Switch(on)
	needs.Tarpit, needs.Seed = p.tarpit, seed
	return nil
}

// feedTarpit has the tarpit look like the sites and say what the archive has for it.
func (p *Program) feedTarpit() error {
	lib := &artifact.Local{Store: p.slow.artifacts(), Now: time.Now}
	if watch := p.tarpit.watch(lib, false); watch != nil {
		p.Background("what the archive keeps for the tarpit", watch)
	}
	if p.tarpit.learns() {
		p.Background("learning what the sites look like", p.Rounds(lib).Run)
	}
	if !p.tarpit.text.stored || len(p.Config.Tarpit.Texts) == 0 {
		return nil
	}
	runner, err := jobs.New(jobs.Options{Jobs: []jobs.Job{corpusJob(p.Config, lib)}, Now: time.Now, Log: p.Log})
	if err != nil {
		return err
	}
	p.Background("jobs", runner.Run)
	return p.Metrics.Registry.Register(runner)
}

// corpusJob trains the model of the tarpit's text anew.
func corpusJob(c *config.Config, lib artifact.Library) jobs.Job {
	return jobs.Job{Name: "corpus", Every: c.Sync.CorpusEvery, Run: func(ctx context.Context) error { return trainCorpus(ctx, c, lib) }}
}

// api serves the report and the switch, whose position is kept.
func (p *tarpitPart) api(s tarpit.Settings) *tarpit.API {
	return &tarpit.API{Tarpit: p.Tarpit, Keep: func(ctx context.Context, on bool) error { return tarpit.Store(ctx, s, on) }}
}

// openDecoy makes what makes archives, and finds their marks.
func openDecoy(c *config.Config, seed []byte, text decoy.Text) (*decoy.Decoy, error) {
	t := &c.Tarpit
	return decoy.New(seed, text, decoy.Options{MaxBytes: int64(t.ArchiveBytes), MaxRatio: t.ArchiveRatio, Epoch: t.Epoch, Bombs: t.Bombs})
}

// maze makes a maze like the site; nil: like documentation, where the skin is learnt.
func (p *tarpitPart) maze(like *likeness.Likeness) (*maze.Maze, error) {
	c := &p.s.Config.Tarpit
	skin := maze.Skin(c.Skin)
	if skin == maze.SkinLearnt && like == nil {
		skin = maze.SkinDocs
	}
	o := maze.Options{
		Seed: p.seed, Prefix: trap.Prefix(p.seed), Text: p.text, Skin: skin, Likeness: like, Streams: c.Streams, Archives: c.Archives, WayOut: c.WayOut,
	}
	if like != nil { // in the language of the site, which is that of its readers
		all, err := language.Load()
		if err != nil {
			return nil, err
		}
		o.WayOutText = all.Match(like.Language).Text(language.LinkWayOut)
	}
	m, err := maze.New(o)
	if err != nil {
		return nil, fmt.Errorf("tarpit: %w", err)
	}
	return m, nil
}

// OpenTarpit prepares tarpit as a service of its own, behind edges and behind other web servers.
func OpenTarpit(ctx context.Context, o service.Options) (_ *service.Service, err error) {
	c := o.Config
	p := service.New(o)
	defer p.CloseOnError(&err)
	if !c.Tarpit.Enabled {
		return nil, errors.New("tarpit.enabled: the tarpit is told not to be")
	}
	if c.Tarpit.Seed == "" || c.Auth.Proxy.Key == "" { // the secret is there, or the switch
		if err := service.MakeData(c); err != nil {
			return nil, err
		}
	}
	seed, err := proxy.TarpitSeed(c)
	if err != nil {
		return nil, err
	}
	if c.Auth.Proxy.Key == "" && len(c.Tarpit.Fronts) == 0 {
		name := config.EnvName("auth.proxy.key")
		return nil, fmt.Errorf("this service must know who sends clients: set %s (or %s_FILE) for edges, or tarpit.fronts for other web servers", name, name)
	}
	t, err := openTarpit(p, seed, nil)
	if err != nil {
		return nil, err
	}
	fronts, err := clientaddr.New(clientaddr.Config{Trusted: c.Tarpit.Fronts, Headers: c.Edge.ClientHeaders})
	if err != nil {
		return nil, fmt.Errorf("tarpit.fronts: %w", err)
	}
	p.Background("tarpit", t.Run)
	var keep func(ctx context.Context, on bool) error
	if c.Auth.Proxy.Key != "" { // behind edges there is an archive, which ai-service has
		client, err := service.InternalClient(&c.Internal)
		if err != nil {
			return nil, err
		}
		lib := &artifact.Client{Base: c.AIService.URL, HTTP: client, Key: c.Auth.Proxy.Key}
		p.Background("what the archive keeps for the tarpit", t.watch(lib, true))
		keep = func(ctx context.Context, on bool) error {
			_, err := lib.Put(ctx, artifact.Switch, switchName, "", []byte(map[bool]string{true: "on", false: "off"}[on]))
			return err
		}
	} else {
		file := switchFile(c)
		on, err := tarpit.Stored(ctx, file)
		if err != nil {
			return nil, err
		}
		t.Switch(on)
		keep = func(ctx context.Context, on bool) error { return tarpit.Store(ctx, file, on) }
	}
	door := &tarpit.Door{
		Tarpit: t.Tarpit, Keys: func() []string { return []string{c.Auth.Proxy.Key, c.Auth.Proxy.Previous} }, Fronts: fronts, Now: time.Now, Log: o.Log,
	}
	if err := p.ListenPages(ctx, c.Tarpit.Listen, door); err != nil {
		return nil, err
	}
	callers, err := p.Callers(c.Tarpit.Seed == "" || c.Auth.Proxy.Key == "") // with a data directory the operator's key is in it, too
	if err != nil {
		return nil, err
	}
	return p, p.ListenPrivate(ctx, callers, callers.Handler(auth.Group{API: &tarpit.API{Tarpit: t.Tarpit, Keep: keep}}), openapi.AIService())
}

// fileSettings keep small values in files of a directory.
type fileSettings struct{ dir string }

// switchFile is where a tarpit without an archive keeps its switch.
func switchFile(c *config.Config) fileSettings { return fileSettings{c.Data.Directory} }

func (f fileSettings) path(name string) string { return filepath.Join(f.dir, name+".setting") }

// Get implements tarpit.Settings.
func (f fileSettings) Get(_ context.Context, name string) ([]byte, error) {
	b, err := os.ReadFile(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Put implements tarpit.Settings.
func (f fileSettings) Put(_ context.Context, name string, value []byte) error {
	return atomicfile.Replace(f.path(name), func(w io.Writer) error { _, err := w.Write(value); return err })
}

// FindMarks returns the marks in a text that archives of this install bear. The secret must be there: with a new one nothing is found.
func FindMarks(c *config.Config, text []byte) ([]decoy.Mark, error) {
	seed := []byte(c.Tarpit.Seed)
	if len(seed) == 0 {
		path := filepath.Join(c.Data.Directory, proxy.SeedFile)
		var ok bool
		var err error
		if seed, ok, err = keyfile.Existing(path); err != nil {
			return nil, err
		} else if !ok {
			return nil, fmt.Errorf("the secret that marks are made with is missing: there is no %s, and tarpit.seed is not set", path)
		}
	}
	d, err := openDecoy(c, seed, prose.Facts{})
	if err != nil {
		return nil, err
	}
	return d.Find(text), nil
}
