package embedded

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/quickthorn/quickthorn/internal/queue"
	"go.etcd.io/bbolt"
)

// queueChildEnv makes the test binary work on a queue until it is killed.
const queueChildEnv = "QUICKTHORN_TEST_QUEUE_IN"

// queueUntilKilled appends batches from several goroutines and acknowledges some of them; it prints "+BODY" after
// Append and "-BODY" before Ack.
func queueUntilKilled(dir string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx := context.Background()
	s, err := OpenState(ctx, dir, StateOptions{})
	if err != nil {
		fail(err)
	}
	q := s.Queue()
	var mu sync.Mutex
	say := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(line)
	}
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				body := fmt.Sprintf("%d.%d.%d", os.Getpid(), w, i)
				if err := q.Append(ctx, queue.Batch{Body: []byte(body), Events: 1, At: noon}); err != nil {
					fail(err)
				}
				say("+" + body)
			}
		}()
	}
	for {
		bs, err := q.Next(ctx, 3)
		if err != nil {
			fail(err)
		}
		say("-" + string(bs[0].Body))
		if err := q.Ack(ctx, bs[0].ID); err != nil {
			fail(err)
		}
	}
}

func TestEveryAcknowledgedBatchSurvivesAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want, maybe := map[string]bool{}, map[string]bool{}
	for _, lines := range []int{1, 60, 300} {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), queueChildEnv+"="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(out)
		for n := 0; sc.Scan(); n++ {
			if body := sc.Text()[1:]; sc.Text()[0] == '+' {
				if !maybe[body] { // it may be worked on before its Append returns
					want[body] = true
				}
			} else {
				delete(want, body)
				maybe[body] = true
			}
			if n == lines {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child was not killed")
		}
	}
	q := openState(t, dir, StateOptions{}).queue
	d, err := q.Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for len(seen) < d.Batches {
		bs, err := q.Next(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range bs {
			if seen[string(b.Body)] {
				t.Fatalf("%s comes twice", b.Body)
			}
			seen[string(b.Body)] = true
		}
	}
	for body := range want {
		if !seen[body] {
			t.Errorf("%s was acknowledged and is lost", body)
		}
	}
	if len(seen) > len(want)+3*4+3 { // four appends and an Ack under way at each kill
		t.Errorf("%d batches of which %d were acknowledged", len(seen), len(want))
	}
}

func TestAttemptsAreOnDiskSoonAfterTheHandingOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openState(t, dir, StateOptions{})
	for _, body := range []string{"a", "b"} {
		if err := s.queue.Append(t.Context(), queue.Batch{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.queue.Next(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	// The writer goes through its work in order: with this one on disk, the count is too.
	if err := s.queue.Append(t.Context(), queue.Batch{Body: []byte("c")}); err != nil {
		t.Fatal(err)
	}
	var got []int
	err := s.queue.file.view(t.Context(), func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketWaiting).ForEach(func(_, v []byte) error {
			e, err := parseEntry(v)
			got = append(got, e.attempts)
			return err
		})
	})
	if err != nil || !slices.Equal(got, []int{1, 1, 0}) {
		t.Errorf("attempts %v, %v", got, err)
	}
}

func TestADamagedBodyIsBuriedAndStopsNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openState(t, dir, StateOptions{})
	for _, body := range []string{"first", "second", "third"} {
		if err := s.queue.Append(t.Context(), queue.Batch{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	err := s.queue.file.update(t.Context(), func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket(bucketBodies).Put(sequenceKey(1), []byte("fjrst")), tx.Bucket(bucketBodies).Delete(sequenceKey(3)))
	})
	if err != nil {
		t.Fatal(err)
	}
	bs, err := s.queue.Next(t.Context(), 10)
	if err != nil || len(bs) != 1 || string(bs[0].Body) != "second" {
		t.Fatalf("%+v, %v", bs, err)
	}
	ls, err := s.queue.Dead(t.Context(), "", 10)
	if err != nil || len(ls) != 2 || !strings.Contains(ls[0].Reason, "damaged") || string(ls[0].Body) != "fjrst" {
		t.Errorf("%+v, %v", ls, err)
	}
}

func TestADamagedQueueFileIsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openState(t, dir, StateOptions{})
	for i := range 50 {
		if err := s.queue.Append(t.Context(), queue.Batch{Body: bytes.Repeat([]byte{byte(i)}, 3000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, QueueFileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	use := func() error {
		s, err := OpenState(t.Context(), dir, StateOptions{})
		if err != nil {
			return err
		}
		defer s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		var errs []error
		for ctx.Err() == nil {
			bs, err := s.queue.Next(ctx, 10)
			if ctx.Err() != nil {
				break
			}
			errs = append(errs, err)
			for _, b := range bs {
				errs = append(errs, s.queue.Ack(t.Context(), b.ID))
			}
			if err != nil {
				break
			}
		}
		return errors.Join(append(errs, s.queue.Append(t.Context(), queue.Batch{}))...)
	}
	clean := func(name string, damaged []byte, must bool) {
		t.Helper()
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		err := use() // it comes back, without a panic
		if must && !errors.Is(err, ErrQueueCorrupt) || errors.Is(err, ErrInUse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	clean("another file", bytes.Repeat([]byte("this is no queue\n"), 1000), true)
	clean("cut off", whole[:queuePage*3], true)
	for i := range 24 { // the first pages of the file, one after the other, and a bit in each
		at := i * queuePage
		b := bytes.Clone(whole)
		copy(b[at:], bytes.Repeat([]byte{0xff}, queuePage))
		clean(fmt.Sprintf("page %d", i), b, false)
		b = bytes.Clone(whole)
		b[at+17+i%4] ^= 0x40
		clean(fmt.Sprintf("byte %d", at+17+i%4), b, false)
	}
	newer := bytes.Clone(whole)
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openState(t, dir, StateOptions{})
	if err := s.queue.file.update(t.Context(), func(tx *bbolt.Tx) error { return putUint(tx.Bucket(bucketMeta), keyFormat, queueFormat+1) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and the state file is let go of each time
		if _, err := OpenState(t.Context(), dir, StateOptions{}); !errors.Is(err, ErrNewer) || errors.Is(err, ErrQueueCorrupt) {
			t.Errorf("newer: %v", err)
		}
	}
}

func TestALargeQueueFileShrinksOnceItIsEmpty(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, QueueFileName)
	s := openState(t, dir, StateOptions{})
	if err := s.queue.Append(t.Context(), queue.Batch{Body: make([]byte, queue.MaxBody)}); err != nil {
		t.Fatal(err)
	}
	bs, err := s.queue.Next(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.queue.Ack(t.Context(), bs[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	large := size()
	if err := os.WriteFile(path+".new", []byte("left behind by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, above := range []int64{large, large - 1} {
		f, _, _, err := openQueueFile(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if f, err = shrink(t.Context(), f, above); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if now := size(); (now < large) != (above < large) {
			t.Errorf("%d bytes of %d, to be shrunk above %d", now, large, above)
		}
	}
	s = openState(t, dir, StateOptions{})
	if err := s.queue.Append(t.Context(), queue.Batch{}); err != nil {
		t.Fatal(err)
	}
	if again, err := s.queue.Next(t.Context(), 1); err != nil || again[0].ID <= bs[0].ID {
		t.Errorf("after %s: %+v, %v", bs[0].ID, again, err)
	}
}

func TestAChangeThatFailsDoesNotFailItsNeighbours(t *testing.T) {
	t.Parallel()
	s := openState(t, t.TempDir(), StateOptions{})
	w := &writer{file: s.queue.file} // not running: the group is given
	results := make([]error, 4)
	var group []*op
	for i := range results {
		group = append(group, &op{
			do: func(tx *bbolt.Tx) error {
				switch i {
				case 1:
					return iotest.ErrTimeout
				case 2:
					panic("damage")
				}
				return push(tx.Bucket(bucketDead), &entry{events: i})
			},
			after:  func() { results[i] = errors.New("done") },
			report: func(err error) { results[i] = errors.Join(results[i], err) },
		})
	}
	w.commit(group)
	if fmt.Sprint(results[0], results[3]) != "done done" || !errors.Is(results[1], iotest.ErrTimeout) || !errors.Is(results[2], ErrQueueCorrupt) {
		t.Errorf("%v", results)
	}
	ls, err := s.queue.Dead(t.Context(), "", 10)
	if err != nil || len(ls) != 2 || ls[0].Events != 0 || ls[1].Events != 3 {
		t.Errorf("%+v, %v", ls, err)
	}
}

func TestTheStateFileIsLetGoOfWhenTheQueueCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, QueueFileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenState(t.Context(), dir, StateOptions{}); err == nil {
		t.Fatal("a directory is a queue")
	}
	if err := os.Remove(filepath.Join(dir, QueueFileName)); err != nil {
		t.Fatal(err)
	}
	openState(t, dir, StateOptions{})
	if _, err := OpenState(t.Context(), dir, StateOptions{}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second time: %v", err)
	}
	if _, err := OpenState(t.Context(), dir, StateOptions{QueueBytes: -1}); err == nil {
		t.Error("a queue of -1 bytes")
	}
}

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	for _, e := range []entry{
		{},
		{body: 1<<64 - 1, size: queue.MaxBody, sum: 1<<32 - 1, events: 1 << 30, attempts: 7, at: noon.Add(time.Microsecond), source: "edge é", buriedAt: noon, reason: strings.Repeat("x", 1024)},
	} {
		got, err := parseEntry(appendEntry(nil, &e))
		if diff := cmp.Diff(e, got, cmp.AllowUnexported(entry{})); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
	}
}

// FuzzEntry reads damaged entries; what is read can be written.
func FuzzEntry(f *testing.F) {
	f.Add(appendEntry(nil, &entry{}))
	f.Add(appendEntry(nil, &entry{body: 3, size: 5, at: noon, buriedAt: noon, source: "edge", reason: "why"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, raw := range [][]byte{b, sealed(b)} {
			e, err := parseEntry(raw)
			if err != nil {
				continue
			}
			if again, err := parseEntry(appendEntry(nil, &e)); err != nil || !cmp.Equal(e, again, cmp.AllowUnexported(entry{})) {
				t.Errorf("%+v, %+v, %v", e, again, err)
			}
		}
	})
}

// sealed gives b a checksum that is right, so that what lies behind the check is tried too.
func sealed(b []byte) []byte {
	b = append([]byte{entryVersion}, b...)
	sum := checksum(b)
	return append(b, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
}

func BenchmarkAppend30KB(b *testing.B) {
	s := openState(b, b.TempDir(), StateOptions{QueueBytes: 1 << 40})
	body := make([]byte, 30<<10)
	b.SetBytes(int64(len(body)))
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.SetParallelism(max(writers/2, 1))
			if writers == 1 {
				for b.Loop() {
					if err := s.queue.Append(b.Context(), queue.Batch{Body: body}); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.queue.Append(b.Context(), queue.Batch{Body: body}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkWorkThrough30KB(b *testing.B) {
	s := openState(b, b.TempDir(), StateOptions{QueueBytes: 1 << 40})
	body := make([]byte, 30<<10)
	b.SetBytes(int64(len(body)))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range b.N / 8 {
				if err := s.queue.Append(b.Context(), queue.Batch{Body: body}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for n := 0; n < b.N/8*8; {
		bs, err := s.queue.Next(b.Context(), 32)
		if err != nil {
			b.Fatal(err)
		}
		ids := make([]string, len(bs))
		for i := range bs {
			ids[i] = bs[i].ID
		}
		if err := s.queue.Ack(b.Context(), ids...); err != nil {
			b.Fatal(err)
		}
		n += len(bs)
	}
	wg.Wait()
}
