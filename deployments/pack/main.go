// Pack puts the executable of a Lambda function into a zip file that depends on nothing but the executable: no time, user
// or path of the machine is in it, so that whoever builds the same source has the same bytes.
//
//	go run ./deployments/pack dist/arm64/auth/bootstrap dist/arm64/auth.zip
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: pack executable file.zip")
	}
	executable, err := os.ReadFile(filepath.Clean(args[0])) //nolint:gosec // that the caller may read it is the point
	if err != nil {
		return err
	}
	packed, err := pack(executable)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Clean(args[1]), packed, 0o644); err != nil { //nolint:gosec // it is for everybody to read
		return err
	}
	const mib = 1 << 20
	_, err = fmt.Fprintf(stdout, "%-24s %6.2f MiB, of %6.2f MiB\n", filepath.ToSlash(args[1]), float64(len(packed))/mib, float64(len(executable))/mib)
	return err
}

// pack returns a zip file that holds the executable as Lambda's OS-only runtimes ask for it: named bootstrap, and for
// everybody to run (https://docs.aws.amazon.com/lambda/latest/dg/golang-package.html).
func pack(executable []byte) ([]byte, error) {
	header := &zip.FileHeader{
		Name: "bootstrap", Method: zip.Deflate,
		Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC), // where time begins in a zip file
	}
	header.SetMode(0o755)
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestCompression) })
	file, err := w.CreateHeader(header)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(executable); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}
