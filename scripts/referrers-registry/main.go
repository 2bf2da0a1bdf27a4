// Command referrers-registry serves a registry with the referrers API, for tests. Blobs are kept in the folder given as
// the second argument, so that large ones do not fill the memory.
package main

import (
	"log"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	handler := registry.New(
		registry.WithReferrersSupport(true),
		registry.WithBlobHandler(registry.NewDiskBlobHandler(os.Args[2])),
		registry.Logger(log.New(os.Stderr, "", 0)),
	)
	log.Fatal(http.Serve(listener, handler))
}
