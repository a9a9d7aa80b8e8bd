package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// program is what stands in for an image: the machine's own tree, with a local program as its entry point.
type program struct {
	Image   string            `json:"image"`   // glob; * matches everything, slashes too
	Command []string          `json:"command"` // the entry point
	Args    []string          `json:"args"`    // used when the container gives neither command nor args
	Env     map[string]string `json:"env"`     // added, unless the container sets it
	Paths   []string          `json:"paths"`   // what of the machine every user of the container must be able to reach
	User    int               `json:"user"`    // the user whom the image names

	match *regexp.Regexp
}

type imageMap []program

func loadImages(path string) (imageMap, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var images imageMap
	if err := yaml.UnmarshalStrict(text, &images); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i := range images {
		p := &images[i]
		if len(p.Command) == 0 {
			return nil, fmt.Errorf("%s: image %q has no command", path, p.Image)
		}
		p.match = regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(p.Image), `\*`, ".*") + "$")
	}
	return images, nil
}

func (m imageMap) find(image string) (*program, error) {
	for i := range m {
		if m[i].match.MatchString(image) {
			return &m[i], nil
		}
	}
	return nil, fmt.Errorf("no program for image %q", image)
}

// argv gives the process arguments of a container.
func (p *program) argv(c *corev1.Container, expand func(string) string) ([]string, error) {
	argv := p.Command
	if len(c.Command) > 0 {
		var err error
		if argv, err = p.inside(expanded(c.Command, expand)); err != nil {
			return nil, err
		}
	}
	args := expanded(c.Args, expand)
	if len(c.Command) == 0 && len(c.Args) == 0 {
		args = p.Args
	}
	return append(append([]string{}, argv...), args...), nil
}

// inside gives the arguments of a command that is run in the container: the image's own program by its name, or by any
// name that is not on this machine.
func (p *program) inside(command []string) ([]string, error) {
	if len(command) == 0 {
		return nil, errors.New("no command")
	}
	if filepath.Base(command[0]) != filepath.Base(p.Command[0]) {
		if _, err := exec.LookPath(command[0]); err == nil {
			return command, nil
		}
	}
	return append(append([]string{}, p.Command...), command[1:]...), nil
}

// path is where the container finds programs: the image's own first.
func (p *program) path() string {
	return filepath.Dir(p.Command[0]) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

func expanded(words []string, expand func(string) string) []string {
	result := make([]string, 0, len(words))
	for _, word := range words {
		result = append(result, expand(word))
	}
	return result
}
