"""Pictures in and results out: cameras, videos, pictures, recordings, clips and meshes."""
