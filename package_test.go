package jobgate_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/adaptertest"
)

// packageBounds are how large the packages may be, in MiB: what they are now and a few per cent. The goals are 3.5 for
// auth and 7 for the others; what is added to a package makes it start later.
var packageBounds = map[string]map[string]float64{
	"arm64": {"auth": 3.1, "jobs": 3.65, "worker": 3.75},
	"amd64": {"auth": 3.45, "jobs": 4.05, "worker": 4.15},
}

// machines are what GOARCH is called in an executable.
var machines = map[string]elf.Machine{"arm64": elf.EM_AARCH64, "amd64": elf.EM_X86_64}

func TestPackages(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds each function for each architecture")
	}
	adaptertest.Need(t, "git", "apt-get install git")
	adaptertest.Need(t, "make", "apt-get install make")
	here := clone(t, ".", filepath.Join(t.TempDir(), "here"))
	there := clone(t, here, filepath.Join(t.TempDir(), "some", "where", "else"))
	commit := strings.TrimSpace(execute(t, here, "git", "rev-parse", "HEAD"))

	t.Log("\n" + execute(t, here, "make", "package"))
	for arch, bounds := range packageBounds {
		for function, bound := range bounds {
			checkPackage(t, filepath.Join(here, "dist", arch, function), machines[arch], bound)
		}
	}
	for function := range packageBounds["arm64"] {
		if digest(t, filepath.Join(here, "dist", function+".zip")) != digest(t, filepath.Join(here, "dist", "arm64", function+".zip")) {
			t.Errorf("dist/%s.zip is not the package for arm64", function)
		}
	}

	execute(t, there, "make", "package", "FUNCTIONS=auth worker")
	for _, file := range []string{"arm64/auth.zip", "amd64/auth.zip", "amd64/worker.zip"} {
		if digest(t, filepath.Join(here, "dist", file)) != digest(t, filepath.Join(there, "dist", file)) {
			t.Errorf("%s depends on where or when it was built", file)
		}
	}

	if packageBounds[runtime.GOARCH] == nil || runtime.GOOS != "linux" {
		t.Skipf("no package runs on %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	for function := range packageBounds[runtime.GOARCH] {
		got := execute(t, here, filepath.Join("dist", runtime.GOARCH, function, "bootstrap"), "-version")
		if !strings.HasPrefix(got, function+" v") || !strings.Contains(got, commit) || strings.Contains(got, "dirty") {
			t.Errorf("%s -version says %q, want its version and commit %s", function, got, commit)
		}
	}
	if err := os.WriteFile(filepath.Join(there, "README.md"), []byte("changed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	execute(t, there, "make", "package", "FUNCTIONS=auth", "ARCHES="+runtime.GOARCH)
	if got := execute(t, there, filepath.Join("dist", runtime.GOARCH, "auth", "bootstrap"), "-version"); !strings.Contains(got, "+dirty "+commit) {
		t.Errorf("of a tree with changes -version says %q", got)
	}
}

// clone copies the files of a tree to a directory where they are the one commit of a repository.
func clone(t *testing.T, tree, dir string) string {
	t.Helper()
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, relative)
		switch {
		case relative == ".git" || relative == "dist" || relative == ".jobgate":
			return filepath.SkipDir
		case entry.IsDir():
			return os.MkdirAll(to, 0o750)
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	execute(t, dir, "git", "init", "--quiet")
	execute(t, dir, "git", "add", "--all")
	execute(t, dir, "git", "commit", "--quiet", "--message", "a tree")
	return dir
}

// execute runs a program in dir and returns what it writes to stdout.
func execute(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // the first build compiles all of the AWS SDK, twice
	defer cancel()
	if !filepath.IsAbs(program) && strings.Contains(program, string(filepath.Separator)) {
		program = filepath.Join(dir, program)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MAKEFLAGS=",
		"GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=2001-02-03T04:05:06Z",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_COMMITTER_DATE=2001-02-03T04:05:06Z",
	)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, &stdout, &stderr)
	}
	return stdout.String()
}

func digest(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// checkPackage looks at dist/<arch>/<function>.zip.
func checkPackage(t *testing.T, path string, machine elf.Machine, bound float64) {
	t.Helper()
	info, err := os.Stat(path + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	if size := float64(info.Size()) / (1 << 20); size > bound {
		t.Errorf("%s.zip has %.2f MiB, want at most %.2f", path, size, bound)
	}
	packed, err := zip.OpenReader(path + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	if len(packed.File) != 1 || packed.File[0].Name != "bootstrap" || packed.File[0].Mode() != 0o755 || packed.File[0].Modified.Year() != 1980 {
		t.Fatalf("%s.zip has not one file, an executable without a time: %+v", path, packed.File)
	}
	file, err := packed.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	executable, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(executable, []byte(filepath.Dir(filepath.Dir(path)))) {
		t.Errorf("%s tells where it was built", path)
	}
	parsed, err := elf.NewFile(bytes.NewReader(executable))
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Machine != machine {
		t.Errorf("%s is for %v", path, parsed.Machine)
	}
	for _, section := range []string{".symtab", ".debug_info", ".zdebug_info", ".interp"} {
		if parsed.Section(section) != nil {
			t.Errorf("%s has %s: it is not stripped, or needs a library", path, section)
		}
	}
}

// unpacked packs an executable as make package does, and returns the one that Lambda finds in the package.
func unpacked(t *testing.T, executable string) string {
	t.Helper()
	dir := t.TempDir()
	execute(t, ".", "go", "run", "./deployments/pack", executable, filepath.Join(dir, "function.zip"))
	packed, err := zip.OpenReader(filepath.Join(dir, "function.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	if err := os.CopyFS(filepath.Join(dir, "task"), packed); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "task", "bootstrap")
}
