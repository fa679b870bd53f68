"""Object stores: memory, local folder, S3, Azure Blob and Google Cloud Storage behind one port."""
