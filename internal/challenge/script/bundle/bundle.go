// Package bundle builds the browser scripts from their TypeScript sources. It is apart
// from package script so that the bundler is in no program that serves them.
package bundle

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// Build bundles the entry points src/NAME.ts of a folder and returns the contents of the
// files NAME.js and NAME.js.map by these names. The same sources give the same bytes, wherever the
// folder is. Types are stripped, not checked. The scripts have no source map comment: it depends on the name
// that a map is served by.
func Build(dir string, names ...string) (map[string][]byte, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("bundle scripts: %w", err)
	}
	var entries []string
	for _, name := range names {
		entries = append(entries, "src/"+name+".ts")
	}
	result := api.Build(api.BuildOptions{
		AbsWorkingDir: dir,
		EntryPoints:   entries,
		Outdir:        "dist",
		Bundle:        true,
		Format:        api.FormatIIFE, // a classic script: nothing of ours becomes a global
		Target:        api.ES2015,     // phones of 2016; what has no syntax for it is tested for in the script
		Charset:       api.CharsetASCII,
		Sourcemap:     api.SourceMapExternal,
		LegalComments: api.LegalCommentsNone,
		LogLevel:      api.LogLevelSilent,

		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
	})
	if len(result.Errors) > 0 {
		var errs []error
		for _, m := range api.FormatMessages(result.Errors, api.FormatMessagesOptions{Kind: api.ErrorMessage}) {
			errs = append(errs, errors.New(strings.TrimSpace(m)))
		}
		return nil, fmt.Errorf("bundle scripts in %s: %w", dir, errors.Join(errs...))
	}
	files := make(map[string][]byte, len(result.OutputFiles))
	for _, f := range result.OutputFiles {
		files[filepath.Base(f.Path)] = f.Contents
	}
	return files, nil
}
