package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	streaming "k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

const kubeletPort = 10250

// serveKubelet answers what the API server asks of a kubelet: logs and exec. It listens only inside the
// cluster's namespace and asks for no credentials.
func (a *agent) serveKubelet(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", a.containerLogs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", a.execute)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	server := &http.Server{Addr: net.JoinHostPort(a.address, strconv.Itoa(kubeletPort)), Handler: mux}
	go func() { <-ctx.Done(); server.Close() }()
	return server.ListenAndServeTLS(a.certFile, a.keyFile)
}

func (a *agent) container(w http.ResponseWriter, q *http.Request) (*podRunner, *container) {
	if r := a.pods.find(q.PathValue("namespace"), q.PathValue("pod")); r != nil {
		for _, c := range r.containers {
			if c.spec.Name == q.PathValue("container") {
				return r, c
			}
		}
	}
	http.Error(w, "no such container", http.StatusNotFound)
	return nil, nil
}

func (a *agent) containerLogs(w http.ResponseWriter, q *http.Request) {
	r, c := a.container(w, q)
	if c == nil {
		return
	}
	query := q.URL.Query()
	var since time.Time
	if text := query.Get("sinceTime"); text != "" {
		since, _ = time.Parse(time.RFC3339, text)
	} else if seconds, err := strconv.Atoi(query.Get("sinceSeconds")); err == nil {
		since = time.Now().Add(-time.Duration(seconds) * time.Second)
	}
	tail, err := strconv.Atoi(query.Get("tailLines"))
	if err != nil {
		tail = -1
	}
	follow, stamps := query.Get("follow") == "true", query.Get("timestamps") == "true"
	w.Header().Set("Content-Type", "text/plain")
	c.logs.copy(q.Context(), w, since, tail, stamps, func() bool { return follow && r.ctx.Err() == nil })
}

// logFile keeps a container's output: each line with its arrival time in front.
type logFile struct {
	path string
	mu   sync.Mutex
	file *os.File
	part []byte
}

func newLogFile(path string) *logFile { return &logFile{path: path} }

func (l *logFile) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		_ = os.MkdirAll(filepath.Dir(l.path), 0o755)
		var err error
		if l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return 0, err
		}
	}
	stamp := time.Now().UTC().Format(time.RFC3339Nano) + " "
	text := string(l.part) + string(data)
	end := strings.LastIndexByte(text, '\n') + 1
	l.part = []byte(text[end:])
	if end > 0 {
		lines := strings.SplitAfter(text[:end], "\n")
		if _, err := l.file.WriteString(stamp + strings.Join(lines[:len(lines)-1], stamp)); err != nil {
			return 0, err
		}
	}
	return len(data), nil
}

// end completes a last line that has no newline.
func (l *logFile) end() {
	l.mu.Lock()
	unfinished := len(l.part) > 0
	l.mu.Unlock()
	if unfinished {
		_, _ = l.Write([]byte("\n"))
	}
}

// copy writes the lines since a time, at most the last tail ones of what is there, then follows while more says so.
func (l *logFile) copy(ctx context.Context, w io.Writer, since time.Time, tail int, stamps bool, more func() bool) {
	file, err := os.Open(l.path)
	for err != nil && more() && ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
		file, err = os.Open(l.path)
	}
	if err != nil {
		return
	}
	defer file.Close()
	reader := bufio.NewReader(file)
	var held []string
	write := func(line string) {
		if !stamps {
			_, line, _ = strings.Cut(line, " ")
		}
		_, _ = io.WriteString(w, line)
	}
	catchingUp, part := true, ""
	for ctx.Err() == nil {
		line, err := reader.ReadString('\n')
		line, part = part+line, ""
		if err != nil { // the end for now
			part = line
			for _, line := range held {
				write(line)
			}
			held, catchingUp = nil, false
			if flusher, ok := w.(http.Flusher); ok {
				flusher.Flush()
			}
			if !more() {
				return
			}
			time.Sleep(100 * time.Millisecond)
			continue
		}
		stamp, _, _ := strings.Cut(line, " ")
		// sinceTime has whole seconds: a line of the same second counts.
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil && at.Before(since) {
			continue
		}
		if !catchingUp || tail < 0 {
			write(line)
			continue
		}
		if held = append(held, line); len(held) > tail {
			held = held[1:]
		}
	}
}

func (a *agent) execute(w http.ResponseWriter, q *http.Request) {
	r, c := a.container(w, q)
	if c == nil {
		return
	}
	query := q.URL.Query()
	on := func(name string) bool { return query.Get(name) == "1" || query.Get(name) == "true" }
	options := &streaming.Options{Stdin: on(corev1.ExecStdinParam), Stdout: on(corev1.ExecStdoutParam), Stderr: on(corev1.ExecStderrParam), TTY: on(corev1.ExecTTYParam)}
	streaming.ServeExec(w, q, executor{r, c}, r.pod.Name, string(r.pod.UID), c.spec.Name, query[corev1.ExecCommandParam], options,
		time.Hour, time.Minute, streaming.SupportedStreamingProtocols)
}

// executor runs commands in one container; terminals are not supported.
type executor struct {
	r *podRunner
	c *container
}

func (e executor) ExecInContainer(ctx context.Context, _, _, _ string, command []string, in io.Reader, out, errOut io.WriteCloser, _ bool, _ <-chan streaming.TerminalSize, _ time.Duration) error {
	err := e.r.runInside(e.c, func(argv []string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Stdin = in
		if out != nil {
			cmd.Stdout = out
		}
		if errOut != nil {
			cmd.Stderr = errOut
		}
		return cmd
	}, command)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return utilexec.CodeExitError{Err: err, Code: exit.ExitCode()}
	}
	return err
}
