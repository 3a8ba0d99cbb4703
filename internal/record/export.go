package record

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// Export writes every event that matches f to w as NDJSON, newest first. It reads page by
// page, so that a slow w holds neither memory nor the archive. Filter.Limit, if set, is the
// most events that are written, and has no upper bound here.
func Export(ctx context.Context, archive Reader, f Filter, w io.Writer) error {
	limit := f.Limit
	enc := json.NewEncoder(w)
	for written := 0; ; {
		f.Limit = MaxEvents
		if limit > 0 {
			f.Limit = min(MaxEvents, limit-written)
		}
		page, err := archive.Events(ctx, f)
		if err != nil {
			return fmt.Errorf("reading events: %w", err)
		}
		for i := range page.Events {
			if err := enc.Encode(&page.Events[i]); err != nil {
				return fmt.Errorf("writing events: %w", err)
			}
		}
		written += len(page.Events)
		if page.Next == "" || limit > 0 && written >= limit {
			return nil
		}
		f.Before = page.Next
	}
}
