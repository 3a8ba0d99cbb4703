package command

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version and revision are set by release and image builds (-ldflags "-X …/internal/command.version=v1.2.3"). Without
// them the Go toolchain's stamp counts.
var version, revision string

// VersionCommand prints the version.
func VersionCommand(env *Environment) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Print the version", Args: NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				v, revision := Version()
				return json.NewEncoder(env.Stdout).Encode(map[string]string{
					"version": v, "revision": revision, "go": runtime.Version(), "os": runtime.GOOS, "architecture": runtime.GOARCH,
				})
			}
			_, err := fmt.Fprintln(env.Stdout, versionLine(c.Root().Name()))
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func versionLine(program string) string {
	v, revision := Version()
	return fmt.Sprintf("%s %s (revision %s, %s %s/%s)", program, v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Version returns the release version, or what the Go toolchain stamped.
func Version() (v, rev string) {
	v, rev = version, revision
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "development", "unknown"
	}
	if v == "" {
		v = info.Main.Version
	}
	if v == "" || v == "(devel)" {
		v = "development"
	}
	modified := false
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && rev == "":
			rev = s.Value
		case s.Key == "vcs.modified" && revision == "":
			modified = s.Value == "true"
		}
	}
	switch {
	case rev == "":
		rev = "unknown"
	case modified:
		rev += "-modified"
	}
	return v, rev
}
