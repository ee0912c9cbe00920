"""DICOM archives: from files to series to volumes."""
